"""Attention over the fused cache: an eager reference and torch's fused kernels, one signature.

Every backend is tested against `EagerAttention`. Causality is bottom-right: with T new and S keys in all, new row t
sees keys 0 … S - T + t. Source: Shazeer 2019, arXiv:1911.02150; the eager arithmetic is that of transformers 4.28–4.53.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.config import GPTBigCodeConfig


class Attention(Protocol):
    """A way to compute causal attention. `prepare` runs once per forward pass, the call once per layer."""

    name: str

    def prepare(self, n_new: int, n_cached: int, keep: Tensor | None, device: torch.device) -> Tensor | None:
        """The combined causal and padding mask, True where a key is seen, or None where this backend needs none.

        Shapes: keep (B, S) bool, False on padding, or None without padding; result (B or 1, 1, T, S).
        """
        ...

    def __call__(self, q: Tensor, kv: Tensor, mask: Tensor | None, *, layer_idx: int, dropout_p: float) -> Tensor:
        """Attends from the new rows to all keys.

        Shapes: q (B, T, H, D); kv (B, K, S, 2 * D) with K = 1 or H; mask from `prepare`; result (B, T, H * D).
        """
        ...


def causal_mask(n_new: int, n_cached: int, keep: Tensor | None, device: torch.device) -> Tensor:
    """Bottom-right causal mask combined with padding.

    Shapes: keep (B, S) bool or None; result (B or 1, 1, T, S) bool.
    """
    keys = torch.arange(n_cached + n_new, device=device)
    rows = keys[n_cached:, None]
    mask = (keys <= rows)[None, None]  # (1, 1, T, S)
    return mask if keep is None else mask & keep[:, None, None, :]


class EagerAttention:
    """The reference: one batched matrix product per side, the softmax in float32 where the checkpoint's flags ask for it.

    Numerics: in float16 and bfloat16 with both flags set, scores are divided by layer_idx + 1 before and multiplied
    after the cast, which only guards against overflow of q·k.
    """

    name = "eager"

    def __init__(self, config: GPTBigCodeConfig) -> None:
        self.scale = config.head_dim**-0.5 if config.scale_attn_weights else 1.0
        self.softmax_in_fp32 = config.attention_softmax_in_fp32
        self.scale_by_layer = config.attention_softmax_in_fp32 and config.scale_attention_softmax_in_fp32

    def prepare(self, n_new: int, n_cached: int, keep: Tensor | None, device: torch.device) -> Tensor | None:
        """A single new token sees every key, so it needs a mask only beside padding."""
        return None if n_new == 1 and keep is None else causal_mask(n_new, n_cached, keep, device)

    def __call__(self, q: Tensor, kv: Tensor, mask: Tensor | None, *, layer_idx: int, dropout_p: float) -> Tensor:
        """Attends with plain matrix products; see `Attention`."""
        n_batch, n_new, n_head, head_dim = q.shape
        key, value = kv[..., :head_dim], kv[..., head_dim:]  # (B, K, S, D) each, strided halves
        unscale = layer_idx + 1 if self.scale_by_layer and q.dtype != torch.float32 else 1
        # With one key/value head, the query heads become rows of one product: (B, T, H) -> T * H rows.
        rows = q.reshape(n_batch, 1, n_new * n_head, head_dim) if kv.shape[1] == 1 else q.transpose(1, 2)
        scores = _scaled_product(rows, key, self.scale / unscale)  # (B, 1, T * H, S) or (B, H, T, S)
        if kv.shape[1] == 1:
            scores = scores.view(n_batch, n_new, n_head, -1).transpose(1, 2)  # (B, H, T, S)
        probs = self._softmax(scores, mask, unscale)
        probs = F.dropout(probs, dropout_p) if dropout_p else probs
        mixed = torch.matmul(probs, value)  # (B, H, T, D)
        return mixed.transpose(1, 2).reshape(n_batch, n_new, n_head * head_dim)

    def _softmax(self, scores: Tensor, mask: Tensor | None, unscale: int) -> Tensor:
        dtype = scores.dtype
        if self.softmax_in_fp32:
            scores = scores.float() * unscale
        if mask is not None:
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        return scores.softmax(dim=-1).to(dtype)


def _scaled_product(rows: Tensor, key: Tensor, scale: float) -> Tensor:
    """rows · keyᵀ with the scale folded into the product. Shapes: rows (B, K, R, D), key (B, K, S, D), result (B, K, R, S)."""
    n_batch, n_kv_head, n_rows, head_dim = rows.shape
    n_keys = key.shape[2]
    flat = rows.reshape(-1, n_rows, head_dim), key.reshape(-1, n_keys, head_dim).transpose(1, 2)
    empty = rows.new_empty((n_batch * n_kv_head, n_rows, n_keys))
    return torch.baddbmm(empty, *flat, beta=0, alpha=scale).view(n_batch, n_kv_head, n_rows, n_keys)


class SdpaAttention:
    """torch's scaled_dot_product_attention over the strided halves of the fused cache, never expanded to all heads."""

    name = "sdpa"

    def __init__(self, config: GPTBigCodeConfig) -> None:
        self.scale = config.head_dim**-0.5 if config.scale_attn_weights else 1.0

    def prepare(self, n_new: int, n_cached: int, keep: Tensor | None, device: torch.device) -> Tensor | None:
        """torch's own causal flag is top-left aligned, so it serves only where nothing is cached."""
        if keep is None and (n_new == 1 or n_cached == 0):
            return None
        return causal_mask(n_new, n_cached, keep, device)

    def __call__(self, q: Tensor, kv: Tensor, mask: Tensor | None, *, layer_idx: int, dropout_p: float) -> Tensor:
        """Attends with the fused kernel; see `Attention`."""
        n_batch, n_new, n_head, head_dim = q.shape
        key, value = kv[..., :head_dim], kv[..., head_dim:]  # (B, K, S, D) each, strided halves
        mixed = F.scaled_dot_product_attention(
            q.transpose(1, 2),
            key,
            value,
            attn_mask=mask,
            dropout_p=dropout_p,
            is_causal=mask is None and n_new > 1,
            scale=self.scale,
            enable_gqa=kv.shape[1] != n_head,
        )  # (B, H, T, D)
        return mixed.transpose(1, 2).reshape(n_batch, n_new, n_head * head_dim)
