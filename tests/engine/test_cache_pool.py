"""The pool hands out the agreeing part of what is cached, and keeps to its budget."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.cache_pool import N_PROMPTS, N_SPARED, CachePool
from engine.fim import Ids
from engine.kv_cache import CacheShape, KVCache

SHAPE = CacheShape(n_layer=1, n_kv_head=1, head_dim=8, n_positions=4096, dtype=torch.float32, device=torch.device("cpu"))
BLOCK_BYTES = 256 * SHAPE.bytes_per_token
IDS = st.lists(st.integers(0, 2), min_size=1, max_size=12).map(tuple)
LONG = tuple(range(1000))


def pool_of(budget_bytes: int = 1 << 30) -> CachePool:
    return CachePool(lambda: KVCache(SHAPE), budget_bytes)


def fill(pool: CachePool, document: str, ids: Ids) -> int:
    """Takes the prompt and computes rows that hold their own ids; how many were cached."""
    cached = pool.take(document, ids)
    n_reused = len(cached.ids)
    new = ids[n_reused:]
    pool.make_room(cached, len(new))
    cached.kv.reserve(len(new))
    cached.kv.store(0, torch.tensor(new, dtype=torch.float32).reshape(1, 1, -1, 1).expand(1, 1, len(new), 16))
    cached.kv.commit(len(new))
    cached.append(new)
    if new:
        cached.keep_logits(torch.zeros(3))
    rows = cached.kv.store(0, torch.empty(1, 1, 0, 16))[0, 0, :, 0].long()
    assert tuple(rows.tolist()) == cached.ids == ids
    return n_reused


@given(st.lists(IDS, max_size=12))
def test_what_agrees_is_reused_and_a_prompt_cached_whole_costs_nothing(prompts) -> None:
    pool = pool_of()
    for ids in prompts:
        n_uncached = pool.n_uncached("d", ids)
        assert fill(pool, "d", ids) == len(ids) - n_uncached
        assert pool.n_uncached("d", ids) == 0
        assert pool.holds("d", ids[:-1])


def test_a_shorter_prompt_computes_its_last_token_again_for_the_logits() -> None:
    pool = pool_of()
    fill(pool, "d", (1, 2, 3))
    assert pool.n_uncached("d", (1, 2)) == 1


def test_a_jump_leaves_the_prompt_where_the_cursor_was() -> None:
    pool = pool_of()
    elsewhere = (*LONG[:500], -1, -2)
    fill(pool, "d", LONG)
    assert fill(pool, "d", elsewhere) == 500
    assert fill(pool, "d", (*LONG, -3)) == 1000
    assert fill(pool, "d", (*elsewhere, -4)) == len(elsewhere)


def test_a_small_deletion_goes_on_in_place() -> None:
    pool = pool_of()
    fill(pool, "d", LONG)
    fill(pool, "d", (*LONG[: 1000 - N_SPARED], -1))
    assert pool.n_bytes == 4 * BLOCK_BYTES


def test_a_document_keeps_few_prompts() -> None:
    pool = pool_of()
    for n in range(20):
        fill(pool, "d", (n, *LONG[:300]))
    assert pool.n_bytes == N_PROMPTS * 2 * BLOCK_BYTES


def test_the_least_recently_used_goes_first_and_the_budget_holds() -> None:
    pool = pool_of(budget_bytes=3 * BLOCK_BYTES)
    for n in range(1000):
        fill(pool, "kept", (1, 2, 3))
        fill(pool, f"other {n}", (4, 5))
        assert pool.n_bytes <= pool.budget_bytes
    assert pool.n_uncached("kept", (1, 2, 3)) == 0
    assert pool.n_uncached("other 990", (4, 5)) == 2


def test_what_is_in_use_is_never_evicted() -> None:
    pool = pool_of(budget_bytes=2 * BLOCK_BYTES)
    fill(pool, "used", (1, 2, 3))
    with pool.in_use(pool.take("used", (1, 2, 3))):
        fill(pool, "other", (4, 5))
        fill(pool, "d", LONG[:400])
        assert pool.n_uncached("used", (1, 2, 3)) == 0
        assert pool.n_uncached("other", (4, 5)) == 2
        pool.clear()
        assert pool.n_uncached("used", (1, 2, 3)) == 0
        assert pool.n_uncached("d", LONG[:400]) == 400
    pool.clear()
    assert pool.n_bytes == 0


def test_growing_counts_the_old_memory_until_it_is_copied() -> None:
    pool = pool_of(budget_bytes=3 * BLOCK_BYTES)
    fill(pool, "other", (4, 5))
    fill(pool, "d", LONG[:256])
    fill(pool, "d", LONG[:257])
    assert pool.n_uncached("other", (4, 5)) == 2
    assert pool.n_bytes == 2 * BLOCK_BYTES


def test_a_forgotten_document_is_computed_anew() -> None:
    pool = pool_of()
    fill(pool, "d", (1, 2))
    pool.forget("d")
    assert pool.n_bytes == 0
    assert pool.n_uncached("d", (1, 2)) == 2
