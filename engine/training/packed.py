"""Attention and loss for packed rows: the engine's own model trains, with these in place of its serving parts."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.config import GPTBigCodeConfig
from engine.heads import GPTBigCodeForCausalLM
from engine.training.batches import IGNORED, Row

_BLOCK = 128  # queries at a time: what lies above the diagonal is computed only inside a block
_LOSS_CHUNK = 1024  # rows of logits at a time: all of them at once would fall out of every cache


class PackedAttention:
    """Causal multi-query attention inside each sample of a flat row, and never across.

    Sample by sample and block by block, the least work that is exact. The lengths are those of the row about to be run.
    Numerics: scores in q's dtype, softmax in float32 inside, as the flags of the checkpoint's own code have it without fusing.
    """

    name = "packed"

    def __init__(self, config: GPTBigCodeConfig) -> None:
        assert config.multi_query
        self.scale = config.head_dim**-0.5 if config.scale_attn_weights else 1.0
        self.lengths: tuple[int, ...] = ()

    def prepare(self, n_new: int, n_cached: int, keep: Tensor | None, like: Tensor) -> Tensor | None:
        """The mask of one block, -inf where a key is not seen; takes one flat row, uncached and unpadded.

        Shapes: result (_BLOCK, 1, _BLOCK).
        """
        assert sum(self.lengths) == n_new
        assert n_cached == 0
        assert keep is None
        return torch.full((_BLOCK, _BLOCK), -torch.inf, device=like.device).triu(1)[:, None]

    def __call__(self, q: Tensor, kv: Tensor, mask: Tensor | None, *, layer_idx: int, dropout_p: float) -> Tensor:
        """Attends sample by sample; shapes as in `engine.attention.Attention`, B = K = 1."""
        assert mask is not None
        q = q[0] * self.scale  # (T, H, D)
        head_dim = q.shape[-1]
        key, value = kv[0, 0, :, :head_dim], kv[0, 0, :, head_dim:]  # (T, D) each
        lengths, mask = list(self.lengths), mask.to(q.dtype)
        samples = zip(torch.split(q, lengths), torch.split(key, lengths), torch.split(value, lengths), strict=True)
        mixed = [_attend(*sample, mask) for sample in samples]
        return torch.cat(mixed).flatten(1)[None]  # (1, T, H * D)


def _attend(q: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """One sample. All heads share the keys, so heads fold into rows of one matrix product, and no tensor is ever transposed.

    torch's fused CPU kernels cost three times as much, backward included (measured in bfloat16, 2,048 tokens, two cores).
    Shapes: q (T, H, D), scaled; key and value (T, D); result (T, H, D).
    """
    n_head, head_dim = q.shape[1:]
    mixed = []
    for start, rows in zip(range(0, len(q), _BLOCK), torch.split(q, _BLOCK), strict=True):
        n_rows, end = len(rows), start + len(rows)
        scores = rows.reshape(-1, head_dim) @ key[:end].T  # (rows * H, end)
        scores.view(n_rows, n_head, end)[..., start:] += mask[:n_rows, :, :n_rows]
        mixed.append(scores.softmax(-1) @ value[:end])
    return torch.cat(mixed).view_as(q)


def packed_loss(model: GPTBigCodeForCausalLM, row: Row) -> Tensor:
    """The summed cross-entropy, in nats and float32, of a row's labels."""
    attention = model.transformer.attention
    assert isinstance(attention, PackedAttention)
    attention.lengths = row.lengths
    h = model.transformer(row.ids[None], position_ids=row.positions[None]).last_hidden_state[0]  # (T, E)
    total: Tensor = h.new_zeros((), dtype=torch.float32)
    for h_part, labels in zip(torch.split(h, _LOSS_CHUNK), torch.split(row.labels, _LOSS_CHUNK), strict=True):
        logits = F.linear(h_part, model.lm_head.weight).float()  # (chunk, V)
        total = total + F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
    return total
