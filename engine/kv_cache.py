"""Fused key/value buffers: keys and values of all layers of one prompt in one tensor.

Multi-query checkpoints need [S, 2 * D] per layer, multi-head ones [H, S, 2 * D] (k and v of a head side by side, so
that both halves go into an attention kernel uncopied).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakSet

import torch
from torch import Tensor

from engine.api import ContextTooLong
from engine.config import GPTBigCodeConfig

BLOCK_TOKENS = 256  # growth step: a re-allocation copies everything, so it must be rare


@dataclass(frozen=True, slots=True)
class CacheShape:
    """What a cache's size follows from: one token takes `bytes_per_token` over all layers."""

    n_layer: int
    n_kv_head: int
    head_dim: int
    n_positions: int
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, config: GPTBigCodeConfig, dtype: torch.dtype, device: torch.device) -> CacheShape:
        """The shape that a model of this config, dtype and device needs."""
        return cls(config.n_layer, config.n_kv_head, config.head_dim, config.n_positions, dtype, device)

    @property
    def bytes_per_token(self) -> int:
        """Bytes that one cached token takes, keys and values of every layer together."""
        return self.n_layer * self.n_kv_head * 2 * self.head_dim * self.dtype.itemsize


class _Buffer:
    """Allocated memory, and the caches that read it: one that is not alone with it copies before it writes."""

    def __init__(self, fused: Tensor) -> None:
        self.fused = fused  # (L, B, K, C, 2 * D)
        self.users: WeakSet[KVCache] = WeakSet()


class KVCache:
    """The keys and values of `length` tokens per sequence, with room for more.

    A forward pass first reserves room, then stores each layer's new rows behind the live prefix, and commits them at its
    end: a pass that is abandoned half-way leaves nothing behind.
    """

    def __init__(self, shape: CacheShape, n_batch: int = 1) -> None:
        self.shape = shape
        self.length = 0
        empty = (shape.n_layer, n_batch, shape.n_kv_head, 0, 2 * shape.head_dim)
        self._use(_Buffer(torch.empty(empty, dtype=shape.dtype, device=shape.device)))

    @property
    def capacity(self) -> int:
        """Tokens that fit before the next re-allocation."""
        return self._buffer.fused.shape[3]

    @property
    def n_batch(self) -> int:
        """Sequences that it holds."""
        return self._buffer.fused.shape[1]

    @property
    def buffers(self) -> dict[int, int]:
        """Bytes allocated, by an identity that caches sharing one buffer have in common."""
        return {id(self._buffer): self._buffer.fused.nbytes}

    def n_bytes_to_reserve(self, n_new: int) -> int:
        """Bytes that `reserve` would allocate."""
        needed = self.length + n_new
        if needed <= self.capacity and self._is_alone:
            return 0
        return _round_up(needed, self.shape.n_positions) * self.n_batch * self.shape.bytes_per_token

    def reserve(self, n_new: int) -> None:
        """Makes room for `n_new` more tokens, in whole blocks, in memory that no other cache reads.

        Raises: ContextTooLong past the model's positions.
        """
        needed = self.length + n_new
        if needed > self.shape.n_positions:
            raise ContextTooLong(f"{needed} tokens do not fit the model's {self.shape.n_positions} positions; shorten the text")
        if needed <= self.capacity and self._is_alone:
            return
        fused = self._buffer.fused
        with torch.inference_mode(False):  # a cache made inside that mode could not be written to outside
            grown = fused.new_empty((*fused.shape[:3], _round_up(needed, self.shape.n_positions), fused.shape[4]))
        grown[..., : self.length, :] = fused[..., : self.length, :]
        self._buffer.users.discard(self)
        self._use(_Buffer(grown))

    def store(self, layer_idx: int, kv: Tensor) -> Tensor:
        """Puts a layer's new rows behind its live prefix and gives back a view of both.

        Where a gradient is wanted, the result is a copy: it flows to the new rows, never into the cache.
        Shapes: kv (B, K, T, 2 * D); result (B, K, S, 2 * D), S = length + T.
        """
        end = self.length + kv.shape[2]
        layer = self._buffer.fused[layer_idx]
        if kv.requires_grad:
            layer[:, :, self.length : end] = kv.detach()
            return torch.cat((layer[:, :, : self.length], kv), dim=2)
        layer[:, :, self.length : end] = kv
        return layer[:, :, :end]

    def layer(self, layer_idx: int) -> Tensor:
        """A layer's whole buffer, for a kernel that stores the new rows by itself. Shapes: (B, K, C, 2 * D)."""
        return self._buffer.fused[layer_idx]

    def rows(self, start: int) -> Tensor:
        """A view of the live prefix from `start` on. Shapes: result (L, B, K, length - start, 2 * D)."""
        return self._buffer.fused[..., start : self.length, :]

    def extend(self, rows: Tensor) -> None:
        """Puts rows that were computed elsewhere behind the live prefix. Shapes: rows (L, B, K, T, 2 * D)."""
        n_new = rows.shape[3]
        self.reserve(n_new)
        self._buffer.fused[..., self.length : self.length + n_new, :] = rows
        self.commit(n_new)

    def commit(self, n_new: int) -> None:
        """Makes the rows stored since the last commit part of the live prefix."""
        self.length += n_new

    def truncate(self, length: int) -> None:
        """Forgets everything behind the first `length` tokens; costs nothing."""
        assert 0 <= length <= self.length
        self.length = length

    def branch(self, length: int) -> KVCache:
        """A cache of the first `length` tokens that shares memory with this one until either is written to."""
        assert 0 <= length <= self.length
        other = KVCache(self.shape, self.n_batch)
        other.length = length
        other._use(self._buffer)
        return other

    @classmethod
    def stacked(cls, caches: Sequence[KVCache]) -> KVCache:
        """A batch of the only sequence of each of several caches of one length, in memory of its own, with the first's room."""
        first = caches[0]
        other = cls(first.shape, len(caches))
        fused = first._buffer.fused
        with torch.inference_mode(False):
            stacked = fused.new_empty((fused.shape[0], len(caches), *fused.shape[2:]))
        for idx, cache in enumerate(caches):
            assert (cache.n_batch, cache.length) == (1, first.length)
            stacked[:, idx, :, : first.length] = cache.rows(0)[:, 0]
        other._use(_Buffer(stacked))
        other.length = first.length
        return other

    def _use(self, buffer: _Buffer) -> None:
        self._buffer = buffer
        buffer.users.add(self)

    @property
    def _is_alone(self) -> bool:
        return len(self._buffer.users) == 1


def _round_up(n_tokens: int, n_positions: int) -> int:
    """Whole blocks, but no more than there are positions."""
    return min(-(-n_tokens // BLOCK_TOKENS) * BLOCK_TOKENS, n_positions)
