"""Triton kernels for a pass of a few rows: embeddings, and linear layers with all that stands between them.

What such a pass waits for is weights and launches: a norm is made where its product is, of moments that whoever wrote the rows
left beside them. Source: Tillet, Kung, Cox 2019, "Triton".
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

# Not compiled anew for a pass of one row, or of sixteen.
PASS_SIZES = ["n_rows", "n_new", "n_sequences"]


@triton.jit
def wait(OVERLAPS: tl.constexpr):
    """Before a kernel reads what others wrote, or writes: lets the next one be launched, and waits for those before it.

    Every program of every kernel has to come by here, for a kernel that has ended vouches for all that it waited for.
    """
    if OVERLAPS:
        gdc_launch_dependents()
        gdc_wait()


@triton.jit
def fetch_ahead(panel, outs, is_out, n_in, N_FETCHED: tl.constexpr, PER_LINE: tl.constexpr):
    """Has the first inputs' weights brought into the device's cache. Shapes: panel (n_out, n_in) in memory."""
    lines = tl.arange(0, N_FETCHED // PER_LINE) * PER_LINE
    places = panel + outs[:, None] * n_in + tl.maximum(tl.minimum(lines, n_in - PER_LINE), 0)[None, :]
    places = tl.where(is_out[:, None], places, panel)
    tl.inline_asm_elementwise(
        "prefetch.global.L2 [$1]; mov.u32 $0, 0;", "=r,l", [places], dtype=tl.int32, is_pure=False, pack=1
    )


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
def store_moments(moments, h, rows, is_row, n_parts, BLOCK_ROWS: tl.constexpr, BLOCK_OUT: tl.constexpr):
    """Keeps what a program knows of each row's norm.

    Shapes: h (rows, BLOCK_OUT), moments (2, n_parts, BLOCK_ROWS) in memory.
    """
    mean = tl.sum(h, 1) / BLOCK_OUT
    apart = h - mean[:, None]
    places = moments + tl.program_id(0) * BLOCK_ROWS + rows
    tl.store(places, mean, mask=is_row)
    tl.store(places + n_parts * BLOCK_ROWS, tl.sum(apart * apart, 1), mask=is_row)


@triton.jit
def add_pairs(one, other, more_of_one, more_of_other):
    """Two sums in one reduction, which costs as many barriers as one."""
    return one + more_of_one, other + more_of_other


@triton.jit
def load_moments(moments, rows, is_row, n_in, eps, n_parts, BLOCK_ROWS: tl.constexpr, BLOCK_PARTS: tl.constexpr):
    """Each row's mean and reciprocal deviation, from parts of one size. Shapes: results (rows,).

    Numerics: squares are taken about the first part's mean; where that lies far off, the variance is as large.
    Source: Chan, Golub, LeVeque 1979, "Updating formulae and a pairwise algorithm for computing sample variances".
    """
    parts = tl.arange(0, BLOCK_PARTS)
    is_part = (parts < n_parts)[:, None] & is_row[None, :]
    places = moments + parts[:, None] * BLOCK_ROWS + rows[None, :]
    pivot = tl.load(moments + rows, mask=is_row, other=0.0)
    apart = tl.where(is_part, tl.load(places, mask=is_part, other=0.0) - pivot[None, :], 0.0)
    squares = tl.load(places + n_parts * BLOCK_ROWS, mask=is_part, other=0.0) + apart * apart * (n_in / n_parts)
    total, squares = tl.reduce((apart, squares), 0, add_pairs)
    apart = total / n_parts
    variance = tl.maximum(squares / n_in - apart * apart, 0.0)
    return pivot + apart, 1.0 / tl.sqrt(variance + eps)


@triton.jit
def add_groups(sums, GROUPS: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_OUT: tl.constexpr):
    """Adds 1, 2 or 4 groups; `tl.sum` would have every warp hold all of the result, and activate it.

    Shapes: sums (GROUPS, BLOCK_ROWS, BLOCK_OUT), result (BLOCK_ROWS, BLOCK_OUT).
    """
    sums = tl.permute(sums, (1, 2, 0))
    if GROUPS == 4:
        one, other = tl.split(tl.reshape(sums, (BLOCK_ROWS, BLOCK_OUT, 2, 2)))
        sums = one + other
    if GROUPS >= 2:
        one, other = tl.split(sums)
        sums = one + other
    else:
        sums = tl.reshape(sums, (BLOCK_ROWS, BLOCK_OUT))
    return sums


@triton.jit(do_not_specialize=PASS_SIZES)
def embed(
    ids,  # (B, n_new) int64; negative ones are no draft, and are taken as 0
    lengths,  # (B,) int64: rows cached before
    wte,  # (vocab, width)
    wpe,  # (n_positions, width)
    out,  # (rows, width)
    moments,  # (2, parts, BLOCK_ROWS) float32 of `out`
    n_rows,
    n_new,
    n_positions,
    width,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    OVERLAPS: tl.constexpr,
):
    """Token and position embedding. Programs: (width / BLOCK_OUT,)."""
    wait(OVERLAPS)
    columns = tl.program_id(0) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    rows = tl.arange(0, BLOCK_ROWS)
    is_row = rows < n_rows
    token = tl.maximum(tl.load(ids + rows, mask=is_row, other=0), 0)
    place = tl.load(lengths + rows // n_new, mask=is_row, other=0) + rows % n_new
    position = tl.minimum(place, n_positions - 1)  # of rows that are never taken
    h = tl.load(wte + token[:, None] * width + columns[None, :], mask=is_row[:, None], other=0.0)
    h += tl.load(wpe + position[:, None] * width + columns[None, :], mask=is_row[:, None], other=0.0)
    tl.store(out + rows[:, None] * width + columns[None, :], h, mask=is_row[:, None])
    store_moments(moments, h.to(tl.float32), rows, is_row, width // BLOCK_OUT, BLOCK_ROWS, BLOCK_OUT)


@triton.jit(do_not_specialize=PASS_SIZES)
def linear(
    x,  # (rows, n_in)
    weight,  # (n_out, n_in), in x's dtype or int8
    scale,  # (n_out,) float32 of an int8 weight, or None
    bias,  # (n_out,) or None
    norm_weight,  # (n_in,) of a layer norm before the product, or None
    norm_bias,
    moments,  # (2, parts, BLOCK_ROWS) of x, where it is normed
    residual,  # (rows, n_out) added to the product, or None
    out,  # (rows, n_out), less what goes into the cache
    out_moments,  # (2, n_out / BLOCK_OUT, BLOCK_ROWS) of `out`, or None
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
    GROUPS: tl.constexpr,
    BLOCK_PARTS: tl.constexpr,
    N_FETCHED: tl.constexpr,
    OVERLAPS: tl.constexpr,
):
    """A linear layer, the norm before it and the activation or the sum behind it; of c_attn, keys and values go to their cache.

    GROUPS of BLOCK_IN inputs are products side by side, or the warps of a narrow tile would wait for one another's sums.
    Numerics: sums in float32; the normed rows are rounded to x's dtype, as is the product before a residual is added.
    """
    outs = tl.program_id(0) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    rows = tl.arange(0, BLOCK_ROWS)
    ins = (tl.arange(0, GROUPS)[:, None] * BLOCK_IN + tl.arange(0, BLOCK_IN)[None, :])[:, None, :]
    is_row, is_out = rows < n_rows, outs < n_out
    if OVERLAPS:
        fetch_ahead(weight, outs, is_out, n_in, N_FETCHED, 128 // weight.dtype.element_ty.primitive_bitwidth * 8)
    wait(OVERLAPS)
    if norm_weight is not None:
        mean, deviation = load_moments(moments, rows, is_row, n_in, eps, n_parts, BLOCK_ROWS, BLOCK_PARTS)
    sums = tl.zeros((GROUPS, BLOCK_ROWS, BLOCK_OUT), tl.float32)
    for start in range(0, n_in, GROUPS * BLOCK_IN):
        columns = tl.permute(ins, (0, 2, 1))  # (groups, ins, 1)
        tile = tl.load(x + rows[None, None, :] * n_in + start + columns, mask=is_row[None, None, :], other=0.0)
        tile = tl.permute(tile, (0, 2, 1))  # loaded as it is, its rows would share banks
        if norm_weight is not None:
            gain = tl.load(norm_weight + start + ins).to(tl.float32)
            shift = tl.load(norm_bias + start + ins).to(tl.float32)
            normed = (tile.to(tl.float32) - mean[None, :, None]) * deviation[None, :, None] * gain + shift
            tile = normed.to(x.dtype.element_ty)
        panel = tl.load(weight + outs[None, :, None] * n_in + start + ins, mask=is_out[None, :, None], other=0)
        sums = tl.dot(tile, tl.permute(panel.to(tile.dtype), (0, 2, 1)), sums, input_precision="ieee")
    sums = add_groups(sums, GROUPS, BLOCK_ROWS, BLOCK_OUT)
    if scale is not None:
        sums *= tl.load(scale + outs, mask=is_out, other=0.0)[None, :]
    if bias is not None:
        sums += tl.load(bias + outs, mask=is_out, other=0.0)[None, :].to(tl.float32)
    result = activated(sums, ACTIVATION).to(out.dtype.element_ty)
    is_wanted = is_row[:, None] & is_out[None, :]
    if residual is not None:
        result += tl.load(residual + rows[:, None] * n_out + outs[None, :], mask=is_wanted, other=0.0)
    if out_moments is not None:
        store_moments(out_moments, result.to(tl.float32), rows, is_row, n_out // BLOCK_OUT, BLOCK_ROWS, BLOCK_OUT)
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
