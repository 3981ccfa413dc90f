"""The signatures of FlashAttention-2's functions over the eager reference, and every call they got.

They stand in where there is no GPU; what is tested is what the backends hand to them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from engine.attention import EagerAttention
from engine.config import GPTBigCodeConfig
from engine.flash_attention import FlashKernels


class ReferenceKernels:
    """As the real ones: bottom-right causal, last dimension contiguous, H a multiple of the key/value heads."""

    def __init__(self, config: GPTBigCodeConfig) -> None:
        self._eager = EagerAttention(config)
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def of_flash_attn(self) -> FlashKernels:
        return FlashKernels(self.flash_attn_func, self.flash_attn_with_kvcache)

    def flash_attn_func(
        self, q: Tensor, k: Tensor, v: Tensor, dropout_p=0.0, softmax_scale=None, causal=False, window_size=(-1, -1)
    ) -> Tensor:
        self._note("flash_attn_func", q=q, k=k, v=v, causal=causal, softmax_scale=softmax_scale, window_size=window_size)
        return self._attend(q, k, v, causal, window_size)

    def flash_attn_with_kvcache(
        self,
        q: Tensor,
        k_cache: Tensor,
        v_cache: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        cache_seqlens: Tensor,
        softmax_scale=None,
        causal=False,
        window_size=(-1, -1),
    ) -> Tensor:
        assert cache_seqlens.dtype == torch.int32
        self._note("flash_attn_with_kvcache", q=q, k=k_cache, v=v_cache, causal=causal, softmax_scale=softmax_scale)
        mixed = []
        for idx, n_cached in enumerate(cache_seqlens.tolist()):
            end = n_cached + k.shape[1]
            k_cache[idx, n_cached:end], v_cache[idx, n_cached:end] = k[idx], v[idx]
            mixed.append(self._attend(q[idx, None], k_cache[idx, None, :end], v_cache[idx, None, :end], causal, window_size))
        return torch.cat(mixed)

    def flash_attention_forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cum_seq_q: Tensor | None,
        cum_seq_k: Tensor | None,
        max_q: int,
        max_k: int,
        dropout_p: float,
        is_causal: bool,
        return_debug_mask: bool,
        *,
        scale: float | None = None,
        window_size_left: int = -1,
        window_size_right: int = -1,
        seqused_k: Tensor | None = None,
        block_table: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """`aten::_flash_attention_forward`, which refuses what is asserted here. Shapes: as it has them, of pages or dense."""
        assert not return_debug_mask
        assert (cum_seq_q is None) == (cum_seq_k is None)
        window = window_size_left, window_size_right
        self._note("forward", q=query, k=key, v=value, causal=is_causal, softmax_scale=scale, window_size=window, max_k=max_k)
        if cum_seq_q is None:
            assert (query.dim(), max_q, max_k) == (4, query.shape[1], key.shape[1])
            return self._attend(query, key, value, is_causal, window), query
        assert cum_seq_k is not None
        assert seqused_k is not None
        n_batch = len(cum_seq_q) - 1
        for numbers, shape in ((cum_seq_q, (n_batch + 1,)), (cum_seq_k, (n_batch + 1,)), (seqused_k, (n_batch,))):
            assert (numbers.dtype, numbers.is_contiguous(), numbers.shape) == (torch.int32, True, shape)
        assert query.dim() == 3
        if block_table is not None:
            assert (block_table.dtype, block_table.shape[0], block_table.stride(-1)) == (torch.int32, n_batch, 1)
            assert key.shape[1] % 256 == 0
        mixed = []
        for idx, (start, end) in enumerate(zip(cum_seq_q.tolist(), cum_seq_q[1:].tolist(), strict=False)):
            first = int(cum_seq_k[idx])
            rows = (half[first:] if block_table is None else half[block_table[idx]].flatten(0, 1) for half in (key, value))
            k, v = (each[: int(seqused_k[idx])] for each in rows)
            assert end - start <= max_q
            assert len(k) <= max_k
            mixed.append(self._attend(query[None, start:end], k[None], v[None], is_causal, window)[0])
        return torch.cat(mixed), query

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, causal: bool, window_size: tuple[int, int]) -> Tensor:
        """Shapes: q (B, T, H, D); k and v (B, S, K, D); result as q."""
        n_new, n_keys = q.shape[1], k.shape[1]
        keys, rows = torch.arange(n_keys), torch.arange(n_keys - n_new, n_keys)[:, None]
        seen = (keys <= rows) | (not causal)
        if window_size[0] >= 0:
            seen &= keys >= rows - window_size[0]
        kv = torch.cat((k, v), dim=-1).transpose(1, 2)
        return self._eager(q, kv, seen[None, None], layer_idx=0, dropout_p=0.0).view(q.shape)

    def _note(self, name: str, **arguments: Any) -> None:
        q, k, v = (arguments[each] for each in "qkv")
        assert q.stride(-1) == k.stride(-1) == v.stride(-1) == 1
        assert q.shape[-2] % k.shape[-2] == 0
        self.calls.append((name, arguments))
