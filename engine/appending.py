"""Attention for passes of a fixed shape: new rows go into a static cache at places that only the device knows.

What a CUDA graph replays may read no number on the host, so lengths are tensors here and the whole cache is handed in.
"""

from __future__ import annotations

from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from engine.attention import EagerAttention
from engine.config import GPTBigCodeConfig

PAGE_TOKENS = 256  # the smallest page that FlashAttention-2 takes


class NewRows:
    """The new rows of every sequence of a pass, and where they go; what a backend needs of it is made once per pass."""

    def __init__(self, lengths: Tensor, n_new: int, capacity: int) -> None:
        """Shapes: lengths (B,) int64, rows cached before."""
        self.lengths, self.n_new, self.capacity = lengths, n_new, capacity

    @cached_property
    def places(self) -> Tensor:
        """Shapes: result (B, T)."""
        steps = torch.arange(self.n_new, device=self.lengths.device)
        return self.lengths[:, None] + steps

    @cached_property
    def n_cached(self) -> Tensor:
        """Shapes: result (B,) int32."""
        return self.lengths.int()

    @cached_property
    def n_keys(self) -> Tensor:
        """Shapes: result (B,) int32."""
        return self.n_cached + self.n_new

    @cached_property
    def offsets(self) -> Tensor:
        """Where each sequence's rows begin among all. Shapes: result (B + 1,) int32."""
        return self._starts(self.n_new)

    @cached_property
    def key_offsets(self) -> Tensor:
        """Where each sequence's keys begin in the cache. Shapes: result (B + 1,) int32."""
        return self._starts(self.capacity)

    def _starts(self, n_each: int) -> Tensor:
        return torch.arange(len(self.lengths) + 1, dtype=torch.int32, device=self.lengths.device) * n_each

    @cached_property
    def pages(self) -> Tensor:
        """The table of pages: each sequence has its own, in order. Shapes: result (B, C / page) int32."""
        n_batch, n_pages = len(self.lengths), self.capacity // PAGE_TOKENS
        return torch.arange(n_batch * n_pages, dtype=torch.int32, device=self.lengths.device).view(n_batch, n_pages)

    @cached_property
    def seen(self) -> Tensor:
        """Which keys a row sees, bottom-right. Shapes: result (B, 1, T, C) bool."""
        keys = torch.arange(self.capacity, device=self.lengths.device)
        return (keys <= self.places[..., None])[:, None]


class AppendingAttention(Protocol):
    """Attention that also stores what it attends to."""

    def append(self, q: Tensor, new: Tensor, kv: Tensor, rows: NewRows, *, layer_idx: int) -> Tensor:
        """Puts the new rows behind each sequence's cached ones and attends over both.

        Shapes: q (B, T, H, D); new (B, K, T, 2 * D); kv (B, C, K, 2 * D), written in place; result (B, T, H * D).
        """
        ...


class MaskedAppending:
    """The reference: rows are scattered, and all of the cache is looked at under a mask."""

    def __init__(self, config: GPTBigCodeConfig) -> None:
        self._eager = EagerAttention(config)

    def append(self, q: Tensor, new: Tensor, kv: Tensor, rows: NewRows, *, layer_idx: int) -> Tensor:
        """See `AppendingAttention`."""
        store_rows(kv, new, rows)
        return self._eager(q, kv.transpose(1, 2), rows.seen, layer_idx=layer_idx, dropout_p=0.0)


def store_rows(kv: Tensor, new: Tensor, rows: NewRows) -> None:
    """Scatters the new rows to their places. Shapes: kv (B, C, K, 2 * D), new (B, K, T, 2 * D)."""
    places = rows.places[..., None, None].expand(-1, -1, *kv.shape[2:])  # (B, T, K, 2 * D)
    kv.scatter_(1, places, new.transpose(1, 2))
