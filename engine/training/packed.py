"""Attention and loss for packed rows: the engine's own model trains, with these in place of its serving parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.config import GPTBigCodeConfig
from engine.heads import GPTBigCodeForCausalLM
from engine.training.batches import Row

_BLOCK = 256  # queries at a time: what lies above the diagonal is computed only inside a block; 64 takes a fifth longer
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
        head_dim = q.shape[-1]
        key, value = kv[0, 0, :, :head_dim], kv[0, 0, :, head_dim:]  # (T, D) each
        mixed = _attend(q[0] * self.scale, key, value, mask.to(q.dtype), self.lengths)
        return mixed.flatten(1)[None]  # (1, T, H * D)


class _Causal(torch.autograd.Function):
    """Attention inside each sample. All heads share the keys, so heads fold into rows of one matrix product.

    Its gradient is written out, for autograd zeroes and adds a whole tensor for each slice of one: a step took 1.3 times
    as long. torch's fused CPU kernels cost three times as much (both measured in bfloat16, 4,096 tokens, two cores).
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, key: Tensor, value: Tensor, mask: Tensor, lengths: tuple[int, ...]) -> Tensor:
        """Shapes: q (T, H, D), scaled; key and value (T, D); mask (_BLOCK, 1, _BLOCK); result (T, H, D)."""
        q, key, value = q.contiguous(), key.contiguous(), value.contiguous()
        mixed, weights = torch.empty_like(q), []
        for first, start, end in _blocks(lengths):
            n_rows, n_keys = end - start, end - first
            scores = _folded(q[start:end]) @ key[first:end].T  # (rows * H, keys)
            scores.view(n_rows, -1, n_keys)[..., start - first :] += mask[:n_rows, :, :n_rows]
            weights.append(scores.softmax(-1))
            torch.mm(weights[-1], value[first:end], out=_folded(mixed[start:end]))
        ctx.save_for_backward(q, key, value, *weights)
        ctx.lengths = lengths
        return mixed

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of q, key and value. Shapes: as in `forward`."""
        (d_mixed,) = grads
        q, key, value, *weights = ctx.saved_tensors
        d_mixed = d_mixed.contiguous()
        d_q, d_key, d_value = torch.empty_like(q), torch.zeros_like(key), torch.zeros_like(value)
        for part, (first, start, end) in zip(weights, _blocks(ctx.lengths), strict=True):
            d_rows = _folded(d_mixed[start:end])
            d_value[first:end].addmm_(part.T, d_rows)
            d_part = d_rows @ value[first:end].T
            d_scores = torch.ops.aten._softmax_backward_data(d_part, part, -1, part.dtype)
            torch.mm(d_scores, key[first:end], out=_folded(d_q[start:end]))
            d_key[first:end].addmm_(d_scores.T, _folded(q[start:end]))
        return d_q, d_key, d_value, None, None


_attend: Callable[..., Tensor] = _Causal.apply


def _blocks(lengths: tuple[int, ...]) -> Iterator[tuple[int, int, int]]:
    """(first key, first query, end of both) of each block of queries of each sample."""
    first = 0
    for length in lengths:
        for start in range(first, first + length, _BLOCK):
            yield first, start, min(start + _BLOCK, first + length)
        first += length


def _folded(rows: Tensor) -> Tensor:
    """Heads as rows. Shapes: rows (T, H, D), contiguous; result (T * H, D), the same memory."""
    return rows.view(-1, rows.shape[-1])


def packed_loss(model: GPTBigCodeForCausalLM, row: Row) -> Tensor:
    """The summed cross-entropy of a row's labels, times their weights, in nats and float32."""
    attention = model.transformer.attention
    assert isinstance(attention, PackedAttention)
    attention.lengths = row.lengths
    h = model.transformer(row.ids[None], position_ids=row.positions[None]).last_hidden_state[0]  # (T, E)
    weight = model.lm_head.weight
    return _summed_loss(h, weight if torch.is_grad_enabled() else weight.detach(), row.labels, row.weights)


class _SummedLoss(torch.autograd.Function):
    """Head and cross-entropy in one, chunk by chunk, with the gradient made on the way: logits are never seen twice."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, weight: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """Shapes: h (T, E), weight (V, E), labels and their weights (T,); result (), float32."""
        needs_grad = any(ctx.needs_input_grad)
        d_h, d_weight = torch.empty_like(h), torch.zeros_like(weight)
        total = h.new_zeros((), dtype=torch.float32)
        chunks = (torch.split(rows, _LOSS_CHUNK) for rows in (h, d_h, labels, weights))
        for h_part, d_h_part, labels_part, weights_part in zip(*chunks, strict=True):
            logprobs = F.log_softmax(F.linear(h_part, weight).float(), dim=-1)  # (chunk, V)
            total += F.nll_loss(logprobs, labels_part, reduction="none") @ weights_part
            if not needs_grad:
                continue
            d_logits = logprobs.exp_().mul_(weights_part[:, None])
            d_logits[torch.arange(len(labels_part), device=h.device), labels_part] -= weights_part
            d_logits = d_logits.to(h.dtype)
            torch.mm(d_logits, weight, out=d_h_part)
            d_weight.addmm_(d_logits.T, h_part)
        ctx.save_for_backward(d_h, d_weight)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of h and weight."""
        (scale,) = grads
        d_h, d_weight = ctx.saved_tensors
        return d_h * scale, d_weight * scale, None, None


_summed_loss: Callable[..., Tensor] = _SummedLoss.apply
