"""In float32 every output equals the newest transformers', whatever the config."""

from __future__ import annotations

import pytest
import torch

from tests.engine.pairs import padded, pair, random_ids, relative_error

TOLERANCE = 1e-5  # of the largest value
N_GREEDY = 200

# multi_query, activation, softmax in fp32, scaled in fp32, scale_attn_weights, layers, width, heads, inner, vocabulary, tied
CONFIGS = [
    (True, "gelu_pytorch_tanh", True, True, True, 2, 32, 4, None, 99, True),
    (True, "gelu_pytorch_tanh", True, False, True, 3, 48, 3, 96, 100, True),
    (True, "gelu_pytorch_tanh", False, False, True, 1, 64, 8, 200, 257, True),
    (True, "gelu_pytorch_tanh", False, True, False, 2, 24, 2, None, 512, False),
    (True, "gelu", True, True, True, 2, 40, 5, 64, 1000, True),
    (True, "gelu", True, False, False, 4, 16, 2, 33, 99, True),
    (True, "gelu", False, False, True, 2, 64, 4, None, 8192, True),
    (True, "gelu", False, True, True, 1, 96, 6, 128, 50257, True),
    (True, "relu", True, True, True, 2, 32, 1, None, 128, False),
    (True, "relu", False, False, False, 3, 36, 6, 50, 333, True),
    (True, "gelu_new", True, True, True, 2, 56, 7, 112, 2048, True),
    (True, "gelu_new", False, True, True, 2, 32, 2, None, 49152, True),
    (True, "gelu_pytorch_tanh", True, True, True, 2, 128, 2, None, 49164, True),
    (True, "gelu", True, True, True, 5, 20, 4, 80, 99, True),
    (True, "gelu_pytorch_tanh", True, True, True, 6, 32, 4, None, 151, False),
    (False, "gelu_pytorch_tanh", True, True, True, 2, 32, 4, None, 99, True),
    (False, "gelu_pytorch_tanh", False, False, True, 3, 48, 3, 96, 49153, True),
    (False, "gelu_pytorch_tanh", True, False, False, 2, 24, 2, None, 512, False),
    (False, "gelu", True, True, True, 2, 40, 5, 64, 1000, True),
    (False, "gelu", False, True, True, 4, 16, 2, 33, 199, True),
    (False, "gelu", False, False, False, 1, 64, 8, None, 8192, True),
    (False, "relu", True, True, True, 2, 32, 1, None, 128, False),
    (False, "relu", False, False, True, 3, 36, 6, 50, 333, True),
    (False, "gelu_new", True, True, True, 2, 56, 7, 112, 49280, True),
    (False, "gelu_new", True, False, True, 2, 128, 4, None, 2048, True),
    (False, "gelu_pytorch_tanh", True, True, True, 6, 32, 4, None, 151, False),
]
NAMES = (
    "multi_query activation_function attention_softmax_in_fp32 scale_attention_softmax_in_fp32 scale_attn_weights "
    "n_layer n_embd n_head n_inner vocab_size tie_word_embeddings"
).split()
CASES = [dict(zip(NAMES, row, strict=True), seed=seed) for seed, row in enumerate(CONFIGS)]


def check(got: torch.Tensor, wanted: torch.Tensor) -> None:
    assert relative_error(got, wanted) <= TOLERANCE


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['seed']}")
@torch.inference_mode()
def test_logits_hidden_states_and_loss(case, attention) -> None:
    """Rows: without padding, padded on the left, and of padding alone."""
    theirs, ours = pair("ForCausalLM", attention, **case)
    ids, mask, positions = padded(random_ids((3, 30), case["vocab_size"]), [0, 11, 30])
    labels = ids.masked_fill(mask == 0, -100)
    options = {"labels": labels, "output_hidden_states": True}
    wanted = theirs(ids, attention_mask=mask, position_ids=positions, **options)
    got = ours(ids, mask, **options)
    check(got.logits, wanted.logits)
    for ours_h, theirs_h in zip(got.hidden_states, wanted.hidden_states, strict=True):
        check(ours_h, theirs_h)
    check(got.loss, wanted.loss)
    check(ours(ids, token_type_ids=labels.clamp(min=0)).logits, theirs(ids, token_type_ids=labels.clamp(min=0)).logits)
    embeds = ours.transformer.wte(ids)
    check(ours(inputs_embeds=embeds).logits, theirs(inputs_embeds=embeds).logits)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['seed']}")
@torch.inference_mode()
def test_greedy_ids(case) -> None:
    theirs, ours = pair("ForCausalLM", "sdpa", **case)
    ids, mask, _ = padded(random_ids((2, 20), case["vocab_size"]), [0, 7])
    options = {"max_new_tokens": N_GREEDY, "eos_token_id": []}
    got = ours.generate(ids, mask, **options)
    theirs.generation_config.eos_token_id = None
    wanted = theirs.generate(ids, attention_mask=mask, max_new_tokens=N_GREEDY, do_sample=False)
    assert got.shape == (2, 20 + N_GREEDY)
    assert got.tolist() == wanted.tolist()


# the labels' shape and range, num_labels, problem_type: every way to a sequence's loss
PROBLEMS = [
    ("float (3,)", 1, None),
    ("float (3, 4)", 4, "regression"),
    ("integer (3,)", 4, None),
    ("integer (3,)", 3, "single_label_classification"),
    ("float (3, 5)", 5, None),
    ("float (3, 2)", 2, "multi_label_classification"),
]


def labels_of(kind: str, n_labels: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    if kind.startswith("integer"):
        return torch.randint(n_labels, (3,), generator=generator)
    shape = (3,) if kind == "float (3,)" else (3, n_labels)
    return torch.rand(shape, generator=generator)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("multi_query", [True, False])
@pytest.mark.parametrize(("kind", "n_labels", "problem_type"), PROBLEMS)
@torch.inference_mode()
def test_sequence_labels_and_loss(kind, n_labels, problem_type, multi_query, attention) -> None:
    changes = {"num_labels": n_labels, "problem_type": problem_type, "multi_query": multi_query}
    theirs, ours = pair("ForSequenceClassification", attention, **changes)
    ids, mask, positions = padded(random_ids((3, 17)), [0, 5, 17])
    ids[0, 12:] = 0  # padded on the right
    labels = labels_of(kind, n_labels)
    wanted = theirs(ids, attention_mask=mask, position_ids=positions, labels=labels)
    got = ours(ids, mask, labels=labels)
    check(got.logits, wanted.logits)
    check(got.loss, wanted.loss)
    embeds = ours.transformer.wte(ids)
    check(ours(inputs_embeds=embeds).logits, theirs(inputs_embeds=embeds).logits)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("multi_query", [True, False])
@torch.inference_mode()
def test_token_labels_and_loss(multi_query, attention) -> None:
    theirs, ours = pair("ForTokenClassification", attention, num_labels=7, multi_query=multi_query)
    ids, mask, positions = padded(random_ids((3, 17)), [0, 5, 17])
    labels = (ids % 7).masked_fill(ids % 3 == 0, -100)
    wanted = theirs(ids, attention_mask=mask, position_ids=positions, labels=labels)
    got = ours(ids, mask, labels=labels)
    check(got.logits, wanted.logits)
    check(got.loss, wanted.loss)


@torch.inference_mode()
def test_a_single_sequence_needs_no_padding_token() -> None:
    theirs, ours = pair("ForSequenceClassification", "sdpa", pad_token_id=None)
    ids = random_ids((1, 9))
    check(ours(ids).logits, theirs(ids).logits)
    with pytest.raises(ValueError, match=r"a batch of 2 needs a padding token, and the config's pad_token_id is None"):
        ours(ids.repeat(2, 1))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("multi_query", [True, False])
def test_gradients(multi_query, attention) -> None:
    """Also outside of training, where a cache is filled beside the gradient."""
    theirs, ours = pair("ForCausalLM", attention, multi_query=multi_query)
    ids, mask, positions = padded(random_ids((2, 12)), [0, 4])
    labels = ids.masked_fill(mask.cumsum(-1) <= 1, -100)  # none is predicted from padding, which sees no key
    theirs(ids, attention_mask=mask, position_ids=positions, labels=labels).loss.backward()
    output = ours(ids, mask, labels=labels)
    output.loss.backward()
    assert output.kv_cache.length == 12
    for name, parameter in ours.named_parameters():
        assert relative_error(parameter.grad, theirs.get_parameter(name).grad) <= 1e-4, name
