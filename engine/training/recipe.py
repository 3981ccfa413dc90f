"""The recipe at its two sizes: what two CPU cores train in tens of hours, and what one GPU trains in half an hour."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from engine.config import GPTBigCodeConfig
from engine.training.batches import BatchOptions
from engine.training.optimizer import OptimizerOptions

N_VOCAB = 8192
N_POSITIONS = 2048
END_OF_TEXT = 0  # the first of StarCoder's special tokens


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that a run's result depends on, besides corpus and tokenizer."""

    config: GPTBigCodeConfig
    batch: BatchOptions = field(default_factory=BatchOptions)
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    warmup_steps: int = 50
    dtype: torch.dtype = torch.bfloat16
    device: str = "cpu"


def recipe(size: str) -> Recipe:
    """The recipe of a size, `cpu` (8M parameters) or `gpu` (30M).

    Raises: ValueError naming the sizes.
    """
    match size:
        case "cpu":
            return Recipe(shape(n_layer=8, n_embd=256, n_head=4), BatchOptions(grow_at=(800, 1400, 2200)))
        case "gpu":
            batch = BatchOptions(n_rows=4, row_tokens=16384)
            return Recipe(shape(n_layer=12, n_embd=448, n_head=7), batch, device="cuda")
    raise ValueError(f"size must be cpu or gpu, got {size!r}")


def shape(n_layer: int, n_embd: int, n_head: int, n_vocab: int = N_VOCAB, n_positions: int = N_POSITIONS) -> GPTBigCodeConfig:
    """A GPTBigCode of this size; no dropout, for no token is seen often enough to be remembered."""
    return GPTBigCodeConfig(
        vocab_size=n_vocab,
        n_positions=n_positions,
        n_embd=n_embd,
        n_layer=n_layer,
        n_head=n_head,
        n_inner=4 * n_embd,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=END_OF_TEXT,
        eos_token_id=END_OF_TEXT,
    )
