"""Triton kernels for a pass of a few rows: what is picked behind each, and how much of a draft is right."""

from __future__ import annotations

import triton
import triton.language as tl

from engine.fused_linear import PASS_SIZES, wait


@triton.jit(do_not_specialize=PASS_SIZES)
def pick(
    logits,  # (rows, vocab) float32
    temperature,  # (B,) float32
    seed,  # (1,) int64, which `judge` makes another one
    parts,  # (rows, programs, 5) float32, for `judge`
    n_new,
    n_vocab,
    BLOCK: tl.constexpr,
    OVERLAPS: tl.constexpr,
):
    """The best of a share of the vocabulary, at a temperature with Gumbel's noise, and what the share weighs.

    Programs: (rows, shares).
    """
    wait(OVERLAPS)
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
    n_forced,  # () int64: rows that are taken whatever was picked
    seed,  # (1,) int64
    result,  # (B, 2 * n_new + 1) float32: picks, log-probabilities, rows taken
    n_rows,
    n_new,
    n_parts,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_PARTS: tl.constexpr,
    OVERLAPS: tl.constexpr,
):
    """Merges the shares of every row, and finds how much of each sequence's draft was picked. One program."""
    wait(OVERLAPS)
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
    tl.store(seed, tl.load(seed) + 1)
