"""Compares this engine with transformers on a user's own machine and checkpoint: logits and greedy ids, in float32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.attention import EagerAttention, SdpaAttention
from engine.config import GPTBigCodeConfig
from engine.weights import load_causal_lm

MAX_RELATIVE_ERROR = 1e-5


@dataclass(frozen=True, slots=True)
class Verdict:
    """How far one attention backend's logits are from transformers', and how many greedy ids agree."""

    attention: str
    relative_error: float  # largest logit difference over the largest logit
    n_same: int
    n_greedy: int

    @property
    def passed(self) -> bool:
        """Whether both agree as far as float32 can."""
        return self.relative_error <= MAX_RELATIVE_ERROR and self.n_same == self.n_greedy


def verify(folder: Path, *, n_prompt: int = 64, n_greedy: int = 60, seed: int = 0) -> list[Verdict]:
    """Runs random prompts through both implementations, once per attention backend.

    Raises: CheckpointError where the folder cannot be loaded.
    """
    config = GPTBigCodeConfig.from_pretrained(folder)
    n_greedy = min(n_greedy, config.n_positions // 2)
    n_prompt = min(n_prompt, config.n_positions - n_greedy)
    prompt = torch.randint(config.vocab_size, (1, n_prompt), generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        wanted_ids, wanted_logits = _oracle(folder, prompt, n_greedy)
        return [_compare(folder, backend, wanted_ids, wanted_logits, n_prompt) for backend in (EagerAttention, SdpaAttention)]


def _oracle(folder: Path, prompt: Tensor, n_greedy: int) -> tuple[Tensor, Tensor]:
    """transformers' greedy ids, prompt included, and its logits for all of them."""
    from transformers import GPTBigCodeForCausalLM

    model: Any = GPTBigCodeForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.eval()
    ids = _greedy(lambda ids, _: model(ids).logits, prompt, n_greedy)
    return ids, model(ids).logits


def _compare(
    folder: Path, backend: type[EagerAttention] | type[SdpaAttention], wanted_ids: Tensor, wanted_logits: Tensor, n_prompt: int
) -> Verdict:
    attention = backend(GPTBigCodeConfig.from_pretrained(folder))
    model = load_causal_lm(folder, dtype=torch.float32, device=torch.device("cpu"), attention=attention)
    cache = model.transformer.new_cache()
    n_greedy = wanted_ids.shape[1] - n_prompt
    ids = _greedy(lambda _, new: model(new, kv_cache=cache).logits, wanted_ids[:, :n_prompt], n_greedy)
    error = (model(wanted_ids).logits - wanted_logits).abs().max() / wanted_logits.abs().max()
    n_same = int((ids == wanted_ids)[0, n_prompt:].long().cumprod(0).sum())
    return Verdict(attention.name, float(error), n_same, n_greedy)


def _greedy(forward: Callable[[Tensor, Tensor], Tensor], prompt: Tensor, n_tokens: int) -> Tensor:
    """Continues the prompt by the likeliest tokens; `forward` gets all ids and the new ones. Shapes: (1, T) in and out."""
    ids = new = prompt
    for _ in range(n_tokens):
        new = forward(ids, new)[:, -1:].argmax(-1)
        ids = torch.cat([ids, new], dim=1)
    return ids
