"""However a text is cut, cached, padded or put beside others, each of its tokens gets what a plain pass gives."""

from __future__ import annotations

import itertools
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from engine import GPTBigCodeConfig, GPTBigCodeForCausalLM
from engine.attention import BACKENDS
from tests.engine.pairs import SHAPE, random_ids, relative_error

N_TOKENS = 40
EVERY_MODEL = pytest.mark.parametrize(
    ("attention", "multi_query"), list(itertools.product(["eager", "sdpa"], [True, False])), ids=str
)
EXAMPLES = settings(max_examples=40, deadline=None)
LENGTHS = st.lists(st.integers(1, N_TOKENS), min_size=1, max_size=4)


@cache
def model(attention: str, multi_query: bool) -> GPTBigCodeForCausalLM:
    config = GPTBigCodeConfig.from_dict({**SHAPE, "multi_query": multi_query})
    torch.manual_seed(0)
    return GPTBigCodeForCausalLM(config, BACKENDS[attention](config)).eval()


@cache
def plain(attention: str, multi_query: bool, n_tokens: int) -> Tensor:
    """The logits of a text that is a prefix of the one text."""
    with torch.inference_mode():
        return model(attention, multi_query)(random_ids((1, N_TOKENS))[:, :n_tokens]).logits


def check(got: Tensor, wanted: Tensor) -> None:
    assert relative_error(got, wanted) <= 1e-5


@EVERY_MODEL
@given(steps=st.lists(st.tuples(st.integers(0, N_TOKENS), st.integers(1, N_TOKENS)), min_size=1, max_size=8))
@EXAMPLES
def test_any_cuts_truncations_and_regrowths(attention, multi_query, steps) -> None:
    """Each step truncates to at most so many tokens, and grows by at most so many."""
    ids = random_ids((1, N_TOKENS))
    kv_cache = model(attention, multi_query).new_cache()
    with torch.inference_mode():
        for n_kept, n_new in steps:
            kv_cache.truncate(min(n_kept, kv_cache.length, N_TOKENS - 1))
            start, end = kv_cache.length, min(kv_cache.length + n_new, N_TOKENS)
            got = model(attention, multi_query)(ids[:, start:end], kv_cache=kv_cache).logits
            check(got, plain(attention, multi_query, N_TOKENS)[:, start:end])


@EVERY_MODEL
@given(lengths=LENGTHS, data=st.data())
@EXAMPLES
def test_any_padding_on_either_side_and_any_cut_of_it(attention, multi_query, lengths, data) -> None:
    """Rows of different lengths, each with its padding split between left and right, all in two chunks."""
    n_left = [data.draw(st.integers(0, N_TOKENS - length)) for length in lengths]
    cut = data.draw(st.integers(1, N_TOKENS))
    ids, mask = torch.zeros(2, len(lengths), N_TOKENS, dtype=torch.long)
    for row, (length, start) in enumerate(zip(lengths, n_left, strict=True)):
        ids[row, start : start + length] = random_ids((1, N_TOKENS))[0, :length]
        mask[row, start : start + length] = 1
    kv_cache = model(attention, multi_query).new_cache(len(lengths))
    with torch.inference_mode():
        chunks = [slice(0, cut), slice(cut, N_TOKENS)] if cut < N_TOKENS else [slice(0, N_TOKENS)]
        parts = [model(attention, multi_query)(ids[:, c], mask[:, : c.stop], kv_cache=kv_cache).logits for c in chunks]
    logits = torch.cat(parts, dim=1)
    for row, (length, start) in enumerate(zip(lengths, n_left, strict=True)):
        check(logits[row : row + 1, start : start + length], plain(attention, multi_query, length))


@EVERY_MODEL
@given(order=st.permutations(range(5)))
@EXAMPLES
def test_any_order_of_a_batch(attention, multi_query, order) -> None:
    ids = random_ids((5, 17))
    mask = (torch.arange(17) >= torch.tensor([0, 3, 8, 16, 17])[:, None]).long()
    with torch.inference_mode():
        wanted = model(attention, multi_query)(ids, mask).logits
        got = model(attention, multi_query)(ids[list(order)], mask[list(order)]).logits
        check(got, wanted[list(order)])


@EVERY_MODEL
@given(lengths=LENGTHS)
@settings(max_examples=15, deadline=None)
def test_a_padded_batch_generates_what_each_row_would_alone(attention, multi_query, lengths) -> None:
    ids, mask = torch.zeros(2, len(lengths), max(lengths), dtype=torch.long)
    for row, length in enumerate(lengths):
        ids[row, max(lengths) - length :] = random_ids((1, N_TOKENS))[0, :length]
        mask[row, max(lengths) - length :] = 1
    options = {"max_new_tokens": 8, "eos_token_id": []}
    got = model(attention, multi_query).generate(ids, mask, **options)
    for row, length in enumerate(lengths):
        alone = model(attention, multi_query).generate(random_ids((1, N_TOKENS))[:, :length], **options)
        assert got[row, -8:].tolist() == alone[0, -8:].tolist()
