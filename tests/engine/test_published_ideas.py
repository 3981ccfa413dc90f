"""The ideas of transformers' own published tests for this model, as ours: past, masks, reduction, training, init."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from engine import (
    GPTBigCodeConfig,
    GPTBigCodeForCausalLM,
    GPTBigCodeForSequenceClassification,
    GPTBigCodeForTokenClassification,
    GPTBigCodeModel,
)
from engine.attention import BACKENDS
from tests.engine.pairs import SHAPE, padded, random_ids, relative_error

BOTH_KINDS = pytest.mark.parametrize("multi_query", [True, False])
BOTH_BACKENDS = pytest.mark.parametrize("attention", ["eager", "sdpa"])
DROPOUTS = {"resid_pdrop": 0.2, "embd_pdrop": 0.2, "attn_pdrop": 0.2}


def config_of(**changes: object) -> GPTBigCodeConfig:
    return GPTBigCodeConfig.from_dict({**SHAPE, "pad_token_id": 0, **changes})


def base(attention: str = "eager", **changes: object) -> GPTBigCodeModel:
    config = config_of(**changes)
    torch.manual_seed(0)
    return GPTBigCodeModel(config, BACKENDS[attention](config)).eval()


@BOTH_KINDS
@BOTH_BACKENDS
@torch.inference_mode()
def test_past(multi_query, attention) -> None:
    """A model returns what it cached, and goes on from it; token types go with their tokens."""
    model = base(attention, multi_query=multi_query)
    ids, types = random_ids((3, 8)), random_ids((3, 8), seed=2)
    wanted = model(ids, token_type_ids=types).last_hidden_state
    past = model(ids[:, :7], token_type_ids=types[:, :7]).kv_cache
    assert past.length == 7
    got = model(ids[:, 7:], token_type_ids=types[:, 7:], kv_cache=past).last_hidden_state
    assert relative_error(got, wanted[:, 7:]) <= 1e-5
    assert base(attention, use_cache=False)(ids).kv_cache is None
    assert model.train()(ids).kv_cache is None


@BOTH_KINDS
@BOTH_BACKENDS
@torch.inference_mode()
def test_past_behind_an_attention_mask(multi_query, attention) -> None:
    """What the mask hides has no effect on what comes after it."""
    model = base(attention, multi_query=multi_query)
    ids = random_ids((2, 9))
    mask = torch.ones_like(ids)
    mask[:, 4:8] = 0
    other = ids.clone()
    other[:, 4:8] = random_ids((2, 4), seed=3)
    wanted = model(ids, mask).last_hidden_state[:, -1]
    past = model(other[:, :8], mask[:, :8]).kv_cache
    got = model(other[:, 8:], mask, kv_cache=past).last_hidden_state[:, -1]
    assert relative_error(got, wanted) <= 1e-5


@BOTH_KINDS
@BOTH_BACKENDS
@torch.inference_mode()
def test_past_and_several_new_tokens(multi_query, attention) -> None:
    model = base(attention, multi_query=multi_query)
    ids, mask, _ = padded(random_ids((3, 12)), [0, 2, 5])
    wanted = model(ids, mask, output_hidden_states=True)
    past = model(ids[:, :9], mask[:, :9]).kv_cache
    got = model(ids[:, 9:], mask, kv_cache=past, output_hidden_states=True)
    for got_h, wanted_h in zip(got.hidden_states, wanted.hidden_states, strict=True):
        assert relative_error(got_h, wanted_h[:, 9:]) <= 1e-5


@pytest.mark.parametrize("seed", range(5))
@BOTH_BACKENDS
@torch.inference_mode()
def test_multi_query_is_multi_head_with_equal_keys_and_values(seed, attention) -> None:
    torch.manual_seed(seed)
    one, many = base(attention), base(attention, multi_query=False)
    for parameter in one.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    weights = one.state_dict()
    for name in list(weights):
        if ".c_attn." in name:
            q, kv = weights[name].split((32, 16))
            q, kv = q.unflatten(0, (4, 8)), kv.expand(4, *kv.shape)
            weights[name] = torch.cat((q, kv), dim=1).flatten(0, 1)  # (H, 3, D) rows
    many.load_state_dict(weights)
    ids, mask, _ = padded(random_ids((3, 20), seed=seed), [0, 3, 9])
    for args in ((ids,), (ids, mask)):
        assert relative_error(many(*args).last_hidden_state, one(*args).last_hidden_state) <= 1e-5


@BOTH_KINDS
def test_shapes_of_all_four_models(multi_query) -> None:
    config = config_of(multi_query=multi_query, num_labels=3)
    ids, mask, _ = padded(random_ids((4, 6)), [0, 1, 2, 6])
    output = GPTBigCodeModel(config)(ids, mask, output_hidden_states=True)
    assert output.last_hidden_state.shape == (4, 6, 32)
    assert [h.shape for h in output.hidden_states] == [(4, 6, 32)] * 3
    output = GPTBigCodeForCausalLM(config)(ids, mask, labels=ids)
    assert (output.logits.shape, output.loss.shape) == ((4, 6, 99), ())
    assert GPTBigCodeForCausalLM(config)(ids, mask, logits_to_keep=2).logits.shape == (4, 2, 99)
    output = GPTBigCodeForSequenceClassification(config)(ids, mask, labels=torch.arange(4) % 3)
    assert (output.logits.shape, output.loss.shape) == ((4, 3), ())
    output = GPTBigCodeForTokenClassification(config)(ids, mask, labels=ids % 3)
    assert (output.logits.shape, output.loss.shape) == ((4, 6, 3), ())


@BOTH_KINDS
@BOTH_BACKENDS
def test_gradient_checkpointing_changes_no_gradient(multi_query, attention) -> None:
    """Also under dropout, whose draws are repeated; and each layer runs twice."""
    config = config_of(multi_query=multi_query, **DROPOUTS)
    ids, mask, _ = padded(random_ids((2, 12)), [0, 4])
    gradients, n_runs = [], []
    for is_on in (False, True):
        torch.manual_seed(0)
        model = GPTBigCodeForCausalLM(config, BACKENDS[attention](config)).train()
        n_runs.append(0)

        def count(*_: object) -> None:
            n_runs[-1] += 1

        model.transformer.h[0].register_forward_pre_hook(count)
        if is_on:
            model.gradient_checkpointing_enable()
        torch.manual_seed(1)
        model(ids, mask, labels=ids).loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert all(torch.equal(*each) for each in zip(*gradients, strict=True))
    assert n_runs == [1, 2]
    model.gradient_checkpointing_disable()
    model(ids, labels=ids)
    assert n_runs == [1, 3]


@BOTH_BACKENDS
@pytest.mark.parametrize("dropout", ["resid_pdrop", "embd_pdrop", "attn_pdrop"])
def test_each_dropout_acts_in_training_only(dropout, attention) -> None:
    chances = dict.fromkeys(DROPOUTS, 0.0) | {dropout: 0.5}
    model, ids = base(attention, **chances), random_ids((1, 30))
    torch.manual_seed(0)
    assert torch.equal(model(ids).last_hidden_state, model(ids).last_hidden_state)
    model.train()
    assert not torch.equal(model(ids).last_hidden_state, model(ids).last_hidden_state)


def test_a_dropout_of_attention_keeps_its_share_and_its_mean() -> None:
    """With values of one, attention gives what was kept of each row's probabilities, scaled up: one on average."""
    config = config_of(attn_pdrop=0.25)
    q, kv = torch.zeros(1, 800, 4, 8), torch.cat((torch.zeros(1, 1, 800, 8), torch.ones(1, 1, 800, 8)), dim=-1)
    for name in ("eager", "sdpa"):
        attention = BACKENDS[name](config)
        torch.manual_seed(0)
        mixed = attention(q, kv, attention.prepare(800, 0, None, q), layer_idx=0, dropout_p=0.25)
        assert mixed[:, 400:].mean().item() == pytest.approx(1, abs=0.02)
        assert mixed[0, 0].unique().tolist() in ([0.0], [0.0, pytest.approx(4 / 3)], [pytest.approx(4 / 3)])


# classifier_dropout, hidden_dropout, and what is taken
CHANCES = [(None, None, 0.1), (0.0, 0.3, 0.0), (0.4, None, 0.4), (None, 0.3, 0.3), (None, 0.0, 0.0)]


@pytest.mark.parametrize(("classifier", "hidden", "taken"), CHANCES)
def test_dropout_of_the_token_head(classifier, hidden, taken) -> None:
    config = config_of(classifier_dropout=classifier, hidden_dropout=hidden, **dict.fromkeys(DROPOUTS, 0.0))
    model, ids = GPTBigCodeForTokenClassification(config), random_ids((2, 30))
    assert model.dropout_p == taken
    torch.manual_seed(3)
    got = model.train()(ids).logits
    torch.manual_seed(3)
    wanted = model.classifier(F.dropout(model.transformer(ids).last_hidden_state, taken))
    assert torch.equal(got, wanted)
    assert torch.equal(model.eval()(ids).logits, model.classifier(model.transformer(ids).last_hidden_state))


@pytest.mark.parametrize("kind", [GPTBigCodeForCausalLM, GPTBigCodeForSequenceClassification, GPTBigCodeForTokenClassification])
def test_fresh_weights_have_the_published_spread(kind) -> None:
    config = config_of(vocab_size=1000, n_embd=128, n_layer=8, initializer_range=0.02, num_labels=64)
    torch.manual_seed(0)
    for name, parameter in kind(config).named_parameters():
        std, mean = parameter.std().item(), parameter.mean().item()
        if name.endswith("bias"):
            assert parameter.abs().max() == 0
        elif ".ln_" in name:
            assert torch.equal(parameter, torch.ones(128))
        else:
            wanted = 0.02 / 4 if name.endswith("c_proj.weight") else 0.02
            assert std == pytest.approx(wanted, rel=0.04), name
            assert abs(mean) < wanted / 20, name


MISFITS = [
    ({}, "exactly one of input_ids and inputs_embeds must be given"),
    ({"input_ids": random_ids((1, 3)), "inputs_embeds": torch.ones(1, 3, 32)}, "exactly one of"),
    (
        {"input_ids": random_ids((2, 3)), "attention_mask": torch.ones(2, 4)},
        r"attention_mask has shape \[2, 4\], \[2, 3\] was expected: all tokens, cached and new",
    ),
    ({"input_ids": random_ids((2, 3)), "kv_cache": base().new_cache(1)}, "the cache holds 1 sequences, the batch has 2"),
]


@pytest.mark.parametrize(("arguments", "message"), MISFITS)
def test_arguments_that_do_not_fit_together_are_refused(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        base()(**arguments)


def test_a_problem_type_that_there_is_not_is_refused() -> None:
    model = GPTBigCodeForSequenceClassification(config_of(problem_type="ranking"))
    with pytest.raises(ValueError, match="problem_type 'ranking' is no regression, single_label_ or multi_label_"):
        model(random_ids((1, 3)), labels=torch.ones(1))


def test_a_cache_made_in_inference_mode_serves_outside_of_it() -> None:
    model, ids = base("sdpa"), random_ids((1, 9))
    with torch.inference_mode():
        past = model(ids[:, :5]).kv_cache
    assert relative_error(model(ids[:, 5:], kv_cache=past).last_hidden_state, model(ids).last_hidden_state[:, 5:]) <= 1e-5
