"""Our forward pass equals transformers', and the cache changes nothing."""

from __future__ import annotations

import itertools

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.api import ContextTooLong
from engine.attention import EagerAttention, SdpaAttention
from engine.config import GPTBigCodeConfig
from engine.heads import GPTBigCodeForCausalLM

SHAPES = {"vocab_size": 99, "n_positions": 128, "n_embd": 64, "n_layer": 3, "n_head": 4, "initializer_range": 0.2}
BACKENDS = (EagerAttention, SdpaAttention)
N_GREEDY = 60


def both(backend: type[EagerAttention] | type[SdpaAttention], **changes: object):
    """transformers' model and ours, with the same random weights."""
    values = {**SHAPES, **changes}
    torch.manual_seed(0)
    oracle = transformers.GPTBigCodeForCausalLM(transformers.GPTBigCodeConfig(**values, bos_token_id=1, eos_token_id=None))
    config = GPTBigCodeConfig.from_dict(values)
    ours = GPTBigCodeForCausalLM(config, backend(config))
    ours.load_state_dict(oracle.state_dict())
    return oracle.eval(), ours.eval()


def random_ids(n_tokens: int, n_batch: int = 1) -> torch.Tensor:
    return torch.randint(SHAPES["vocab_size"], (n_batch, n_tokens), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("multi_query", [True, False])
@pytest.mark.parametrize("activation", ["gelu_pytorch_tanh", "gelu", "relu"])
def test_logits_and_hidden_states_equal_transformers(backend, multi_query, activation) -> None:
    oracle, ours = both(backend, multi_query=multi_query, activation_function=activation)
    ids = random_ids(50, n_batch=2)
    with torch.inference_mode():
        wanted = oracle(ids, output_hidden_states=True)
        got = ours(ids, output_hidden_states=True)
    for ours_h, oracle_h in zip(got.hidden_states, wanted.hidden_states, strict=True):
        torch.testing.assert_close(ours_h, oracle_h, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(got.logits, wanted.logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("multi_query", [True, False])
def test_greedy_ids_equal_transformers(backend, multi_query) -> None:
    oracle, ours = both(backend, multi_query=multi_query)
    ids = random_ids(20)
    wanted = oracle.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=N_GREEDY, do_sample=False, pad_token_id=0)
    cache = ours.transformer.new_cache()
    with torch.inference_mode():
        new = ids
        for _ in range(N_GREEDY):
            new = ours(new, kv_cache=cache, logits_to_keep=1).logits[:, -1:].argmax(-1)
            ids = torch.cat([ids, new], dim=1)
    assert ids.tolist() == wanted.tolist()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("multi_query", [True, False])
@given(cuts=st.sets(st.integers(1, 59)), dropped=st.integers(0, 59))
@settings(max_examples=25, deadline=None)
def test_any_chunk_split_and_regrowth_equals_one_shot(backend, multi_query, cuts, dropped) -> None:
    _, ours = both(backend, multi_query=multi_query)
    ids = random_ids(60)
    with torch.inference_mode():
        wanted = ours(ids).logits
        cache = ours.transformer.new_cache()
        edges = [0, *sorted(cuts), 60]
        got = torch.cat([ours(ids[:, a:b], kv_cache=cache).logits for a, b in itertools.pairwise(edges)], dim=1)
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)
        cache.truncate(dropped)
        regrown = ours(ids[:, dropped:], kv_cache=cache).logits
    torch.testing.assert_close(regrown, wanted[:, dropped:], rtol=1e-4, atol=1e-4)


def test_padding_on_the_left_changes_no_logits_of_the_real_tokens() -> None:
    _, ours = both(SdpaAttention)
    ids = random_ids(20, n_batch=2)
    mask = torch.ones_like(ids)
    mask[1, :7] = 0
    with torch.inference_mode():
        got = ours(ids, mask).logits
        alone = ours(ids[1:, 7:]).logits
    torch.testing.assert_close(got[1:, 7:], alone, rtol=1e-4, atol=1e-4)


def test_a_pass_abandoned_between_layers_leaves_the_cache_as_it_was() -> None:
    _, ours = both(SdpaAttention)
    ids, cache = random_ids(30), ours.transformer.new_cache()
    calls = itertools.count()

    def before_layer() -> None:
        if next(calls) == 2:
            raise InterruptedError

    with torch.inference_mode():
        wanted = ours(ids).logits
        ours(ids[:, :10], kv_cache=cache)
        with pytest.raises(InterruptedError):
            ours(random_ids(15), kv_cache=cache, before_layer=before_layer)
        assert cache.length == 10
        got = ours(ids[:, 10:], kv_cache=cache).logits
    torch.testing.assert_close(got, wanted[:, 10:], rtol=1e-4, atol=1e-4)


def test_more_tokens_than_positions_are_refused_by_name_of_the_limit() -> None:
    _, ours = both(SdpaAttention)
    with pytest.raises(ContextTooLong, match="129 tokens do not fit the model's 128 positions"):
        ours(random_ids(129), kv_cache=ours.transformer.new_cache())


def test_fresh_weights_have_the_published_spread() -> None:
    config = GPTBigCodeConfig(vocab_size=2000, n_positions=64, n_embd=256, n_layer=4, n_head=4)
    model = GPTBigCodeForCausalLM(config)
    block = model.transformer.h[0]
    assert block.mlp.c_fc.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert block.mlp.c_proj.weight.std().item() == pytest.approx(0.02 / 8**0.5, rel=0.02)
    assert block.attn.c_attn.bias.abs().max() == 0
    assert torch.equal(block.ln_1.weight, torch.ones(256))
    assert model.lm_head.weight is model.transformer.wte.weight


def test_loss_is_the_shifted_cross_entropy_of_transformers() -> None:
    oracle, ours = both(EagerAttention)
    ids = random_ids(30, n_batch=2)
    labels = ids.masked_fill(ids % 5 == 0, -100)
    torch.testing.assert_close(ours(ids, labels=labels).loss, oracle(ids, labels=labels).loss, rtol=1e-5, atol=1e-5)
