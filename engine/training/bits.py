"""Bits per byte on held-out text: plain left-to-right, in windows of the model's positions, comparable across tokenizers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from engine.heads import GPTBigCodeForCausalLM
from engine.tokenizer import Tokenizer
from engine.training.batches import pack
from engine.training.packed import packed_loss
from engine.training.samples import Sample
from engine.training.texts import Texts


@dataclass(frozen=True, slots=True)
class Windows:
    """Token windows to score, and the bytes that their predicted tokens stand for."""

    ids: tuple[list[int], ...]
    n_bytes: int


def windows(texts: Texts, tokenizer: Tokenizer, n_positions: int, n_bytes: int | None = None) -> Windows:
    """Cuts documents into windows that overlap by one token, so that every token but a document's first is predicted once.

    `n_bytes` stops after about as many, taking every k-th document, so that a quick figure sees every package.
    """
    stride = 1 if n_bytes is None else max(texts.n_bytes // n_bytes, 1)
    cut: list[list[int]] = []
    n_predicted = 0
    for document_idx in range(0, len(texts), stride):
        ids = tokenizer.encode(texts[document_idx])
        n_predicted += sum(len(tokenizer.token_bytes(token_id)) for token_id in ids[1:])
        cut += [ids[start : start + n_positions] for start in range(0, len(ids) - 1, n_positions - 1)]
    return Windows(tuple(cut), n_predicted)


@torch.no_grad()
def bits_per_byte(model: GPTBigCodeForCausalLM, held_out: Windows) -> float:
    """The model's cross-entropy over the windows; the model attends with `PackedAttention`."""
    nats = sum(float(packed_loss(model, pack([Sample(ids, len(ids))]).to(model.device))) for ids in held_out.ids)
    return nats / math.log(2) / held_out.n_bytes
