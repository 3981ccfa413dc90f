"""Attention over the fused cache: an eager reference and torch's fused kernels, one signature.

Every backend is tested against `EagerAttention`. Causality is bottom-right: with T new and S keys in all, new row t
sees keys 0 … S - T + t. Source: Shazeer 2019, arXiv:1911.02150; the eager arithmetic is that of transformers 4.28–4.53.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cached_property
from subprocess import SubprocessError
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.config import GPTBigCodeConfig

log = logging.getLogger(__name__)


class Attention(Protocol):
    """A way to compute causal attention. `prepare` runs once per forward pass, the call once per layer."""

    name: str

    def prepare(self, n_new: int, n_cached: int, keep: Tensor | None, like: Tensor) -> Tensor | None:
        """The combined causal and padding mask in this backend's form, or None where it needs none.

        Shapes: keep (B, S) bool, False on padding, or None without padding; result (B or 1, 1, T, S), on the device
        and, where it is no bool, in the dtype of `like`.
        """
        ...

    def __call__(self, q: Tensor, kv: Tensor, mask: Tensor | None, *, layer_idx: int, dropout_p: float) -> Tensor:
        """Attends from the new rows to all keys.

        Shapes: q (B, T, H, D); kv (B, K, S, 2 * D) with K = 1 or H; mask from `prepare`; result (B, T, H * D).
        """
        ...


def causal_mask(n_new: int, n_cached: int, keep: Tensor | None, device: torch.device) -> Tensor:
    """Bottom-right causal mask combined with padding, True where a key is seen.

    Shapes: keep (B, S) bool or None; result (B or 1, 1, T, S) bool.
    """
    keys = torch.arange(n_cached + n_new, device=device)
    rows = keys[n_cached:, None]
    mask = (keys <= rows)[None, None]  # (1, 1, T, S)
    return mask if keep is None else mask & keep[:, None, None, :]


def fused_softmax(scores: Tensor, mask: Tensor | None, masked: Tensor, unscale: int, dtype: torch.dtype) -> Tensor:
    """Cast, scale, mask and softmax as one function, for one kernel where it is compiled; the result in scores' dtype.

    Shapes: scores (…, S); mask broadcasts to it, True where a key is seen; masked () in `dtype`, put where it is False.
    """
    wide = scores.to(dtype)
    if unscale != 1:
        wide = wide * unscale
    if mask is not None:
        wide = torch.where(mask, wide, masked)
    return wide.softmax(dim=-1).to(scores.dtype)


class EagerAttention:
    """The reference: one batched matrix product per side, the softmax in float32 where the checkpoint's flags ask for it.

    Numerics: in float16 and bfloat16 with both flags set, scores are divided by layer_idx + 1 before and multiplied
    after the cast, which only guards against overflow of q·k. A row that sees no key is the mean of all values.
    """

    name = "eager"

    def __init__(self, config: GPTBigCodeConfig) -> None:
        self.scale = config.head_dim**-0.5 if config.scale_attn_weights else 1.0
        self.softmax_in_fp32 = config.attention_softmax_in_fp32
        self.scale_by_layer = config.attention_softmax_in_fp32 and config.scale_attention_softmax_in_fp32
        self._masked: dict[tuple[torch.dtype, torch.device], Tensor] = {}
        self._is_compilable = True  # until it has failed

    def prepare(self, n_new: int, n_cached: int, keep: Tensor | None, like: Tensor) -> Tensor | None:
        """A single new token sees every key, so it needs a mask only beside padding."""
        return None if n_new == 1 and keep is None else causal_mask(n_new, n_cached, keep, like.device)

    def __call__(self, q: Tensor, kv: Tensor, mask: Tensor | None, *, layer_idx: int, dropout_p: float) -> Tensor:
        """Attends with plain matrix products; see `Attention`."""
        n_batch, n_new, n_head, head_dim = q.shape
        n_kv_head, n_keys = kv.shape[1:3]
        key, value = kv.reshape(-1, n_keys, 2 * head_dim).chunk(2, dim=-1)  # (B * K, S, D) each, strided halves
        unscale = layer_idx + 1 if self.scale_by_layer and q.dtype != torch.float32 else 1
        # One key/value head: the query heads are rows of one product, and no key is ever repeated.
        rows = q if n_kv_head == 1 else q.transpose(1, 2)  # (B, T, H, D) or (B, H, T, D)
        products = rows.new_empty((n_batch * n_kv_head, rows.shape[1] * rows.shape[2] // n_kv_head, n_keys))
        flat = rows.reshape(*products.shape[:2], head_dim)
        scores = torch.baddbmm(products, flat, key.transpose(1, 2), beta=0, alpha=self.scale / unscale)
        if n_kv_head == 1 and mask is not None:
            mask = mask.transpose(1, 2)  # (B, T, 1, S)
        probs = self._softmax(scores.view(*rows.shape[:3], n_keys), mask, unscale)
        probs = F.dropout(probs, dropout_p) if dropout_p else probs
        mixed = torch.bmm(probs.view_as(products), value).view_as(rows)
        mixed = mixed if n_kv_head == 1 else mixed.transpose(1, 2)  # (B, T, H, D)
        return mixed.reshape(n_batch, n_new, n_head * head_dim)

    def _softmax(self, scores: Tensor, mask: Tensor | None, unscale: int) -> Tensor:
        dtype = torch.float32 if self.softmax_in_fp32 else scores.dtype
        arguments = scores, mask, self._mask_value(dtype, scores.device), unscale, dtype
        if scores.is_cuda and self._is_compilable:  # eager torch is faster on a CPU
            try:
                return self._compiled_softmax(*arguments)
            except torch.OutOfMemoryError:
                raise
            except (RuntimeError, OSError, SubprocessError) as error:  # as where there is no C compiler
                log.warning("the softmax runs in several kernels, for it cannot be compiled: %s", str(error).partition("\n")[0])
                self._is_compilable = False
        return fused_softmax(*arguments)

    @cached_property
    def _compiled_softmax(self) -> Callable[..., Tensor]:
        return torch.compile(fused_softmax, dynamic=True)  # the layer's factor and the length vary: never specialise on them

    def _mask_value(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """What stands in for a score that is masked: made once per dtype and device, for `where` wants a tensor."""
        if (dtype, device) not in self._masked:
            self._masked[dtype, device] = torch.full((), torch.finfo(dtype).min, dtype=dtype, device=device)
        return self._masked[dtype, device]


class SdpaAttention:
    """torch's scaled_dot_product_attention over the strided halves of the fused cache.

    Keys are never expanded to all heads, but in training with attention dropout, which torch's fused CPU kernel lacks.
    Numerics: softmax in float32 inside, whatever the flags. A row that sees no key is zero.
    """

    name = "sdpa"

    def __init__(self, config: GPTBigCodeConfig) -> None:
        self.scale = config.head_dim**-0.5 if config.scale_attn_weights else 1.0

    def prepare(self, n_new: int, n_cached: int, keep: Tensor | None, like: Tensor) -> Tensor | None:
        """As summands, for torch converts a bool mask anew in every layer.

        torch's own causal flag is top-left aligned, so it serves only where nothing is cached.
        """
        if keep is None and (n_new == 1 or n_cached == 0):
            return None
        mask = causal_mask(n_new, n_cached, keep, like.device)
        return torch.zeros_like(mask, dtype=like.dtype).masked_fill_(~mask, -torch.inf)

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


BACKENDS: dict[str, type[EagerAttention] | type[SdpaAttention]] = {"eager": EagerAttention, "sdpa": SdpaAttention}
