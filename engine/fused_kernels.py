"""Triton kernels for passes of a few rows: what such a pass waits for is weights and launches, so each does all it can.

Sources: Tillet et al. 2019 (Triton); Dao et al. 2023, "Flash-Decoding" (keys split among processors, merged afterwards).
"""

from __future__ import annotations

import triton
import triton.language as tl

# Not compiled anew for a pass of one row, or of sixteen.
PASS_SIZES = ["n_rows", "n_new", "n_sequences"]


@triton.jit
def activated(h, ACTIVATION: tl.constexpr):
    """The activation of a float32 tile; None is the identity. A tanh is written as the sigmoid that it is."""
    if ACTIVATION == "relu":
        h = tl.maximum(h, 0.0)
    elif ACTIVATION == "erf":
        h = 0.5 * h * (1.0 + tl.erf(h * 0.7071067811865476))
    elif ACTIVATION == "tanh":
        h = h * tl.sigmoid(1.5957691216057308 * (h + 0.044715 * h * h * h))
    return h


@triton.jit
def store_moments(moments, h, rows, is_row, n_parts, BLOCK_OUT: tl.constexpr):
    """Keeps what a program knows of each row's norm. Shapes: h (rows, BLOCK_OUT), moments (rows, n_parts, 2) in memory."""
    mean = tl.sum(h, 1) / BLOCK_OUT
    apart = h - mean[:, None]
    places = moments + (rows * n_parts + tl.program_id(0)) * 2
    tl.store(places, mean, mask=is_row)
    tl.store(places + 1, tl.sum(apart * apart, 1), mask=is_row)


@triton.jit
def load_moments(moments, rows, is_row, n_in, eps, n_parts, BLOCK_PARTS: tl.constexpr):
    """Each row's mean and reciprocal deviation, from parts of one size. Shapes: results (rows,).

    Source: Chan, Golub, LeVeque 1979, "Updating formulae and a pairwise algorithm for computing sample variances".
    """
    parts = tl.arange(0, BLOCK_PARTS)
    is_part = is_row[:, None] & (parts < n_parts)[None, :]
    places = moments + (rows[:, None] * n_parts + parts[None, :]) * 2
    means = tl.load(places, mask=is_part, other=0.0)
    squares = tl.sum(tl.load(places + 1, mask=is_part, other=0.0), 1)
    mean = tl.sum(means, 1) / n_parts
    apart = tl.where(is_part, means - mean[:, None], 0.0)
    squares += tl.sum(apart * apart, 1) * (n_in / n_parts)
    return mean, 1.0 / tl.sqrt(squares / n_in + eps)


@triton.jit(do_not_specialize=PASS_SIZES)
def embed(
    ids,  # (B, n_new) int64; negative ones are no draft, and are taken as 0
    lengths,  # (B,) int64: rows cached before
    wte,  # (vocab, width)
    wpe,  # (n_positions, width)
    out,  # (rows, width)
    moments,  # (rows, parts, 2) float32 of `out`
    n_rows,
    n_new,
    n_positions,
    width,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
):
    """Token and position embedding. Programs: (width / BLOCK_OUT,)."""
    columns = tl.program_id(0) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    rows = tl.arange(0, BLOCK_ROWS)
    is_row = rows < n_rows
    token = tl.maximum(tl.load(ids + rows, mask=is_row, other=0), 0)
    place = tl.load(lengths + rows // n_new, mask=is_row, other=0) + rows % n_new
    position = tl.minimum(place, n_positions - 1)  # of rows that are never taken
    h = tl.load(wte + token[:, None] * width + columns[None, :], mask=is_row[:, None], other=0.0)
    h += tl.load(wpe + position[:, None] * width + columns[None, :], mask=is_row[:, None], other=0.0)
    tl.store(out + rows[:, None] * width + columns[None, :], h, mask=is_row[:, None])
    store_moments(moments, h.to(tl.float32), rows, is_row, width // BLOCK_OUT, BLOCK_OUT)


@triton.jit(do_not_specialize=PASS_SIZES)
def linear(
    x,  # (rows, n_in)
    weight,  # (n_out, n_in), in x's dtype or int8
    scale,  # (n_out,) float32 of an int8 weight, or None
    bias,  # (n_out,) or None
    norm_weight,  # (n_in,) of a layer norm before the product, or None
    norm_bias,
    moments,  # (rows, parts, 2) of x, where it is normed
    residual,  # (rows, n_out) added to the product, or None
    out,  # (rows, n_out), less what goes into the cache
    out_moments,  # (rows, n_out / BLOCK_OUT, 2) of `out`, or None
    kv,  # (B, C, K, kv_width): where a key/value head's share of the outputs goes, or None
    lengths,  # (B,) int64: rows cached before
    n_rows,
    n_out,
    n_in,
    n_parts,  # of moments
    eps,
    n_new,  # rows of a sequence
    q_width,  # outputs that are queries, of each key/value head
    kv_width,
    capacity,
    ACTIVATION: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_IN: tl.constexpr,
    BLOCK_PARTS: tl.constexpr,
):
    """A linear layer, the norm before it and the activation or the sum behind it; of c_attn, keys and values go to their cache.

    Numerics: sums in float32; the normed rows are rounded to x's dtype, as is the product before a residual is added.
    """
    outs = tl.program_id(0) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    rows = tl.arange(0, BLOCK_ROWS)
    ins = tl.arange(0, BLOCK_IN)
    is_row, is_out = rows < n_rows, outs < n_out
    if norm_weight is not None:
        mean, deviation = load_moments(moments, rows, is_row, n_in, eps, n_parts, BLOCK_PARTS)
    sums = tl.zeros((BLOCK_ROWS, BLOCK_OUT), tl.float32)
    for start in range(0, n_in, BLOCK_IN):
        tile = tl.load(x + rows[:, None] * n_in + start + ins[None, :], mask=is_row[:, None], other=0.0)
        if norm_weight is not None:
            gain = tl.load(norm_weight + start + ins)[None, :].to(tl.float32)
            shift = tl.load(norm_bias + start + ins)[None, :].to(tl.float32)
            normed = (tile.to(tl.float32) - mean[:, None]) * deviation[:, None] * gain + shift
            tile = normed.to(x.dtype.element_ty)
        panel = tl.load(weight + outs[:, None] * n_in + start + ins[None, :], mask=is_out[:, None], other=0)
        sums = tl.dot(tile, tl.trans(panel.to(tile.dtype)), sums)
    if scale is not None:
        sums *= tl.load(scale + outs, mask=is_out, other=0.0)[None, :]
    if bias is not None:
        sums += tl.load(bias + outs, mask=is_out, other=0.0)[None, :].to(tl.float32)
    result = activated(sums, ACTIVATION).to(out.dtype.element_ty)
    is_wanted = is_row[:, None] & is_out[None, :]
    if residual is not None:
        result += tl.load(residual + rows[:, None] * n_out + outs[None, :], mask=is_wanted, other=0.0)
    if out_moments is not None:
        store_moments(out_moments, result.to(tl.float32), rows, is_row, n_out // BLOCK_OUT, BLOCK_OUT)
    if kv is None:
        tl.store(out + rows[:, None] * n_out + outs[None, :], result, mask=is_wanted)
    else:
        width = q_width + kv_width
        head, column = outs // width, outs % width
        n_heads = n_out // width
        is_query = is_wanted & (column < q_width)[None, :]
        tl.store(out + rows[:, None] * (n_heads * q_width) + (head * q_width + column)[None, :], result, mask=is_query)
        sequence = rows // n_new
        place = tl.load(lengths + sequence, mask=is_row, other=0) + rows % n_new
        cached = (sequence * capacity + place) * (n_heads * kv_width)
        target = kv + cached[:, None] + (head * kv_width + column - q_width)[None, :]
        tl.store(target, result, mask=is_wanted & (column >= q_width)[None, :])


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
):
    """Causal attention of one sequence's new rows over a share of the cached keys; all query heads of a key are one product.

    Programs: (splits, blocks of rows, B * kv_heads). A split without keys writes nothing.
    """
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
            scores = tl.dot(queries, tl.trans(key)) * scale
            scores = tl.where(keys[None, :] < n_seen[:, None], scores, -1e30)
            better = tl.maximum(best, tl.max(scores, 1))
            shares = tl.where(keys[None, :] < n_seen[:, None], tl.exp2(scores - better[:, None]), 0.0)
            shrink = tl.exp2(best - better)
            total = total * shrink + tl.sum(shares, 1)
            sums = tl.dot(shares.to(value.dtype), value, sums * shrink[:, None])
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
):
    """Merges the splits of one row and head. Programs: (B * n_new * heads,)."""
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


@triton.jit(do_not_specialize=PASS_SIZES)
def pick(
    logits,  # (rows, vocab) float32
    temperature,  # (B,) float32
    seed,  # (1,) int64: another one in every pass
    parts,  # (rows, programs, 5) float32, for `judge`
    n_new,
    n_vocab,
    BLOCK: tl.constexpr,
):
    """The best of a share of the vocabulary, at a temperature with Gumbel's noise, and what the share weighs.

    Programs: (rows, shares).
    """
    row, share = tl.program_id(0), tl.program_id(1)
    token = share * BLOCK + tl.arange(0, BLOCK)
    scores = tl.load(logits + row * n_vocab + token, mask=token < n_vocab, other=-float("inf"))
    heat = tl.load(temperature + row // n_new)
    noisy = scores
    if heat > 0.0:
        chance = tl.rand(tl.load(seed), row * n_vocab + token)
        chance = tl.minimum(tl.maximum(chance, 1e-10), 1.0 - 6e-8)  # both logarithms finite
        noisy = scores - heat * tl.log(-tl.log(chance))
    best = tl.argmax(noisy, 0)
    most = tl.max(scores, 0)
    place = parts + (row * tl.num_programs(1) + share) * 5
    tl.store(place, tl.max(noisy, 0))
    tl.store(place + 1, share * BLOCK + best)
    tl.store(place + 2, tl.sum(tl.where(tl.arange(0, BLOCK) == best, scores, 0.0), 0))
    tl.store(place + 3, most)
    tl.store(place + 4, tl.sum(tl.exp(scores - most), 0))


@triton.jit(do_not_specialize=PASS_SIZES)
def judge(
    parts,  # as `pick` wrote them
    ids,  # (B, n_new) int64
    n_forced,  # (1,) int64: rows that are taken whatever was picked
    result,  # (B, 2 * n_new + 1) float32: picks, log-probabilities, rows taken
    n_rows,
    n_new,
    n_parts,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_PARTS: tl.constexpr,
):
    """Merges the shares of every row, and finds how much of each sequence's draft was picked. One program."""
    rows = tl.arange(0, BLOCK_ROWS)
    is_row = rows < n_rows
    columns = tl.arange(0, BLOCK_PARTS)
    is_part = is_row[:, None] & (columns < n_parts)[None, :]
    places = parts + (rows[:, None] * n_parts + columns[None, :]) * 5
    best = tl.argmax(tl.load(places, mask=is_part, other=-float("inf")), 1)
    chosen = is_part & (columns[None, :] == best[:, None])
    token = tl.sum(tl.load(places + 1, mask=chosen, other=0.0), 1)
    score = tl.sum(tl.load(places + 2, mask=chosen, other=0.0), 1)
    most = tl.load(places + 3, mask=is_part, other=-1e30)
    highest = tl.max(most, 1)
    total = tl.sum(tl.load(places + 4, mask=is_part, other=0.0) * tl.exp(most - highest[:, None]), 1)
    total = tl.where(is_row, total, 1.0)
    sequence, step = rows // n_new, rows % n_new
    place = result + sequence * (2 * n_new + 1) + step
    tl.store(place, token, mask=is_row)
    tl.store(place + n_new, score - highest - tl.log(total), mask=is_row)
    has_next = is_row & (step < n_new - 1)
    is_wrong = has_next & (tl.load(ids + rows + 1, mask=has_next, other=0) != token.to(tl.int64))
    is_own = (sequence[None, :] == rows[:, None]) & is_wrong[None, :]  # (sequences, rows)
    n_agreed = tl.min(tl.where(is_own, step[None, :], n_new - 1), 1)
    n_taken = tl.maximum(n_agreed + 1, tl.load(n_forced).to(tl.int32))
    tl.store(result + rows * (2 * n_new + 1) + 2 * n_new, n_taken.to(tl.float32), mask=rows < n_rows // n_new)
