"""The pool hands out the agreeing part of what is cached, and keeps to its budget."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.api import Order
from engine.cache_pool import CachePool
from engine.fim import FimPrompt
from engine.kv_cache import CacheShape, KVCache

SHAPE = CacheShape(n_layer=1, n_kv_head=1, head_dim=8, n_positions=4096, dtype=torch.float32, device=torch.device("cpu"))
BLOCK_BYTES = 256 * SHAPE.bytes_per_token


def pool_of(budget_bytes: int = 1 << 30) -> CachePool:
    return CachePool(lambda: KVCache(SHAPE), budget_bytes)


def fill(pool: CachePool, document: str, prompt: FimPrompt) -> int:
    """Takes the prompt, computes nothing but notes its ids; how many were cached."""
    cached = pool.take(document, prompt)
    n_reused = len(cached.ids)
    new = prompt.ids[n_reused:]
    cached.kv.reserve(len(new))
    cached.kv.commit(len(new))
    cached.append(new)
    pool.trim()
    return n_reused


@given(st.lists(st.integers(0, 2), min_size=1, max_size=12), st.lists(st.integers(0, 2), min_size=1, max_size=12))
def test_what_agrees_is_reused_but_one_token_is_always_computed(first, second) -> None:
    pool = pool_of()
    fill(pool, "d", FimPrompt(tuple(first), Order.SPM))
    agreeing = next((n for n, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second)))
    prompt = FimPrompt(tuple(second), Order.SPM)
    assert pool.n_uncached("d", prompt) == len(second) - agreeing
    assert fill(pool, "d", prompt) == min(agreeing, len(second) - 1)


def test_orders_and_documents_do_not_disturb_each_other() -> None:
    pool = pool_of()
    for document in ("a", "b"):
        for order in (Order.SPM, Order.PSM):
            assert fill(pool, document, FimPrompt((1, 2, 3), order)) == 0
    assert fill(pool, "a", FimPrompt((1, 2, 3, 4), Order.PSM)) == 3


def test_the_least_recently_used_goes_first_and_the_budget_holds() -> None:
    pool = pool_of(budget_bytes=3 * BLOCK_BYTES)
    for n in range(1000):
        fill(pool, "kept", FimPrompt((1, 2, 3), Order.SPM))
        fill(pool, f"other {n}", FimPrompt((4, 5), Order.SPM))
        assert pool.n_bytes <= pool.budget_bytes
    assert pool.n_uncached("kept", FimPrompt((1, 2, 3), Order.SPM)) == 0
    assert pool.n_uncached("other 990", FimPrompt((4, 5), Order.SPM)) == 2


def test_a_forgotten_document_is_computed_anew() -> None:
    pool = pool_of()
    fill(pool, "d", FimPrompt((1, 2), Order.SPM))
    pool.forget("d")
    assert pool.n_bytes == 0
    assert pool.n_uncached("d", FimPrompt((1, 2), Order.SPM)) == 2
