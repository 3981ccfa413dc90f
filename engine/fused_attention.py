"""Triton kernels for a pass of a few rows: attention over a static cache, keys shared out among processors and merged.

Source: Dao, Haziza, Massa, Sizov 2023, "Flash-Decoding for long-context inference".
"""

from __future__ import annotations

import triton
import triton.language as tl

from engine.fused_linear import PASS_SIZES, wait


@triton.jit(do_not_specialize=PASS_SIZES)
def attend(
    q,  # (B, n_new, heads, head_dim)
    kv,  # (B, C, kv_heads, 2 * head_dim), which holds the new rows already
    lengths,  # (B,) int64: rows cached before
    mixed,  # (splits, B, n_new, heads, head_dim) float32: each split's mean of values
    weights,  # (splits, B, n_new, heads) float32: logarithm of what it weighs, in base 2
    n_sequences,
    n_new,
    n_heads,
    n_kv_heads,
    head_dim,
    capacity,
    scale,  # of scores, for a softmax in base 2
    BLOCK_ROWS: tl.constexpr,
    BLOCK_KEYS: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
    KEYS_PER_SPLIT: tl.constexpr,
    OVERLAPS: tl.constexpr,
):
    """Causal attention of one sequence's new rows over a share of the cached keys; all query heads of a key are one product.

    Programs: (splits, blocks of rows, B * kv_heads). A split without keys writes nothing.
    """
    wait(OVERLAPS)
    split = tl.program_id(0)
    sequence, kv_head = tl.program_id(2) // n_kv_heads, tl.program_id(2) % n_kv_heads
    n_shared = n_heads // n_kv_heads  # query heads of a key/value head
    rows = tl.program_id(1) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    step, head = rows // n_shared, kv_head * n_shared + rows % n_shared
    dims = tl.arange(0, BLOCK_DIM)
    is_row, is_dim = rows < n_new * n_shared, dims < head_dim
    n_cached = tl.load(lengths + sequence)
    n_seen = n_cached + step + 1  # keys that a row sees
    first, n_keys = split * KEYS_PER_SPLIT, n_cached + n_new
    if first < n_keys:
        row = (sequence * n_new + step) * n_heads + head
        queries = tl.load(q + row[:, None] * head_dim + dims[None, :], mask=is_row[:, None] & is_dim[None, :], other=0.0)
        best = tl.full((BLOCK_ROWS,), -1e30, tl.float32)
        total = tl.zeros((BLOCK_ROWS,), tl.float32)
        sums = tl.zeros((BLOCK_ROWS, BLOCK_DIM), tl.float32)
        for start in range(first, first + KEYS_PER_SPLIT, BLOCK_KEYS):
            keys = start + tl.arange(0, BLOCK_KEYS)
            place = kv + ((sequence * capacity + keys) * n_kv_heads + kv_head)[:, None] * (2 * head_dim) + dims[None, :]
            is_there = (keys < n_keys)[:, None] & is_dim[None, :]
            key = tl.load(place, mask=is_there, other=0.0)
            value = tl.load(place + head_dim, mask=is_there, other=0.0)
            scores = tl.dot(queries, tl.trans(key), input_precision="ieee") * scale
            scores = tl.where(keys[None, :] < n_seen[:, None], scores, -1e30)
            better = tl.maximum(best, tl.max(scores, 1))
            shares = tl.where(keys[None, :] < n_seen[:, None], tl.exp2(scores - better[:, None]), 0.0)
            shrink = tl.exp2(best - better)
            total = total * shrink + tl.sum(shares, 1)
            sums = tl.dot(shares.to(value.dtype), value, sums * shrink[:, None], input_precision="ieee")
            best = better
        part = split * (n_sequences * n_new * n_heads) + row
        safe = tl.where(total > 0.0, total, 1.0)
        tl.store(mixed + part[:, None] * head_dim + dims[None, :], sums / safe[:, None], mask=is_row[:, None] & is_dim[None, :])
        tl.store(weights + part, tl.where(total > 0.0, best + tl.log2(safe), -1e30), mask=is_row)


@triton.jit(do_not_specialize=PASS_SIZES)
def merge(
    mixed,  # as `attend` wrote them
    weights,
    lengths,
    out,  # (B, n_new, heads, head_dim)
    n_sequences,
    n_new,
    n_heads,
    head_dim,
    BLOCK_SPLITS: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
    KEYS_PER_SPLIT: tl.constexpr,
    OVERLAPS: tl.constexpr,
):
    """Merges the splits of one row and head. Programs: (B * n_new * heads,)."""
    wait(OVERLAPS)
    row = tl.program_id(0)
    n_rows = n_sequences * n_new * n_heads
    n_keys = tl.load(lengths + row // (n_new * n_heads)) + n_new
    n_splits = (n_keys + KEYS_PER_SPLIT - 1) // KEYS_PER_SPLIT
    dims = tl.arange(0, BLOCK_DIM)
    is_dim = dims < head_dim
    best = -1e30
    total = 0.0
    sums = tl.zeros((BLOCK_DIM,), tl.float32)
    for start in range(0, n_splits, BLOCK_SPLITS):
        splits = start + tl.arange(0, BLOCK_SPLITS)
        is_split = splits < n_splits
        weight = tl.load(weights + splits * n_rows + row, mask=is_split, other=-1e30)
        places = mixed + (splits * n_rows + row)[:, None] * head_dim + dims[None, :]
        means = tl.load(places, mask=is_split[:, None] & is_dim[None, :], other=0.0)
        better = tl.maximum(best, tl.max(weight, 0))
        share, shrink = tl.exp2(weight - better), tl.exp2(best - better)
        total = total * shrink + tl.sum(share, 0)
        sums = sums * shrink + tl.sum(means * share[:, None], 0)
        best = better
    tl.store(out + row * head_dim + dims, (sums / total).to(out.dtype.element_ty), mask=is_dim)
