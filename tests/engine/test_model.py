"""A forward pass that cannot end leaves nothing behind; how it equals transformers' is in `test_exact`."""

from __future__ import annotations

import itertools

import pytest
import torch

from engine.api import ContextTooLong
from tests.engine.pairs import pair, random_ids


def test_a_pass_abandoned_between_layers_leaves_the_cache_as_it_was() -> None:
    _, ours = pair("ForCausalLM", "sdpa", n_layer=3)
    ids, cache = random_ids((1, 30)), ours.new_cache()
    calls = itertools.count()

    def before_layer() -> None:
        if next(calls) == 2:
            raise InterruptedError

    with torch.inference_mode():
        wanted = ours(ids).logits
        ours(ids[:, :10], kv_cache=cache)
        with pytest.raises(InterruptedError):
            ours(random_ids((1, 15)), kv_cache=cache, before_layer=before_layer)
        assert cache.length == 10
        got = ours(ids[:, 10:], kv_cache=cache).logits
    torch.testing.assert_close(got, wanted[:, 10:], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("use_cache", [True, False])
def test_more_tokens_than_positions_are_refused_by_name_of_the_limit(use_cache) -> None:
    _, ours = pair("ForCausalLM", "sdpa", n_positions=128, use_cache=use_cache)
    with pytest.raises(ContextTooLong, match="129 tokens do not fit the model's 128 positions"):
        ours(random_ids((1, 129)))
