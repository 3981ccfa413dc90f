"""The fused buffers: one tensor, grown in blocks, sized as the checkpoint's shape says."""

from __future__ import annotations

import pytest
import torch

from engine.api import ContextTooLong
from engine.config import GPTBigCodeConfig
from engine.kv_cache import BLOCK_TOKENS, CacheShape, KVCache

CPU = torch.device("cpu")


def cache_of(**changes: object) -> KVCache:
    config = GPTBigCodeConfig(**{"n_positions": 1024, "n_embd": 32, "n_layer": 2, "n_head": 4, **changes})
    return KVCache(CacheShape.of(config, torch.float32, CPU))


# name, layers, width, heads, bytes per token in float16: the table of published shapes
PUBLISHED = [
    ("tiny_starcoder_py", 20, 768, 12, 5_120),
    ("gpt_bigcode-santacoder", 24, 2048, 16, 12_288),
    ("starcoderbase-3b", 36, 2816, 22, 18_432),
    ("starcoderbase-7b", 42, 4096, 32, 21_504),
    ("starcoder", 40, 6144, 48, 20_480),
]


@pytest.mark.parametrize(("name", "n_layer", "n_embd", "n_head", "n_bytes"), PUBLISHED)
def test_a_token_takes_the_published_bytes(name, n_layer, n_embd, n_head, n_bytes) -> None:
    config = GPTBigCodeConfig(n_layer=n_layer, n_embd=n_embd, n_head=n_head)
    assert CacheShape.of(config, torch.float16, CPU).bytes_per_token == n_bytes


def test_room_is_reserved_in_blocks_and_never_moves_inside_one() -> None:
    cache = cache_of()
    assert sum(cache.buffers.values()) == 0
    cache.reserve(1)
    assert cache.capacity == BLOCK_TOKENS
    row = torch.ones(1, 1, 1, 16)
    address = cache.store(0, row).data_ptr()
    for _ in range(BLOCK_TOKENS):
        cache.reserve(1)
        assert cache.store(0, row).data_ptr() == address
        cache.commit(1)
    cache.reserve(1)
    assert cache.capacity == 2 * BLOCK_TOKENS
    assert torch.equal(cache.store(0, row)[0, 0], torch.ones(BLOCK_TOKENS + 1, 16))


def test_the_last_block_ends_at_the_last_position() -> None:
    cache = cache_of(n_positions=300)
    cache.reserve(257)
    assert cache.capacity == 300
    with pytest.raises(ContextTooLong, match="300 positions"):
        cache.reserve(301)


def test_keys_and_values_of_a_head_are_one_contiguous_slice() -> None:
    cache = cache_of(multi_query=False)
    cache.reserve(5)
    view = cache.store(1, torch.randn(1, 4, 5, 16))
    assert view.shape == (1, 4, 5, 16)
    assert view[0, 0].is_contiguous()


def test_a_branch_shares_memory_until_either_side_writes() -> None:
    cache = cache_of()
    cache.reserve(10)
    cache.store(0, torch.arange(10.0).reshape(1, 1, 10, 1).expand(1, 1, 10, 16))
    cache.commit(10)
    branch = cache.branch(6)
    assert branch.buffers == cache.buffers
    for each, value in ((branch, 100.0), (cache, 200.0)):
        n_bytes = each.n_bytes_to_reserve(1)
        each.reserve(1)
        each.store(0, torch.full((1, 1, 1, 16), value))
        each.commit(1)
        assert n_bytes == (BLOCK_TOKENS * each.shape.bytes_per_token if each is branch else 0)
    assert branch.buffers != cache.buffers
    nothing = torch.empty(1, 1, 0, 16)
    assert branch.store(0, nothing)[0, 0, :, 0].tolist() == [0, 1, 2, 3, 4, 5, 100]
    assert cache.store(0, nothing)[0, 0, :, 0].tolist() == [*range(10), 200]


def test_memory_of_a_branch_that_is_gone_is_written_to_again() -> None:
    cache = cache_of()
    cache.reserve(10)
    cache.commit(10)
    del_me = cache.branch(10)
    del del_me
    assert cache.n_bytes_to_reserve(1) == 0
