"""generate: the published snippet, transformers' ids and processors, exact probabilities, ends and limits."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation import logits_process

from engine import GPTBigCodeForCausalLM
from engine.api import ContextTooLong
from engine.model_files import SHIPPED_MODEL
from engine.sampler import Sampling, draw, keep_top_k, keep_top_p, penalise_repetition
from tests.engine.pairs import padded, pair, random_ids
from tests.engine.test_attention import HOST_TENSORS, SYNCHRONISING, Recorder

CHI_SQUARE_7 = 24.3  # 7 degrees of freedom, p = 0.001
NO_END: dict[str, list[int]] = {"eos_token_id": []}


def test_the_published_snippet_runs_line_by_line(checkpoint, tmp_path) -> None:
    """As in the documentation, but for the classes' origin, the folder, a dtype of the CPU and its attention."""
    folder = Path(shutil.copytree(checkpoint, tmp_path / "model"))
    shutil.copy(SHIPPED_MODEL / "tokenizer_config.json", folder)
    from transformers import AutoTokenizer

    device = "cpu"
    model = GPTBigCodeForCausalLM.from_pretrained(folder, torch_dtype=torch.bfloat16, attn_implementation="sdpa")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt = "def hello_world():"
    model_inputs = tokenizer([prompt], return_tensors="pt").to(device)
    model.to(device)
    generated_ids = model.generate(**model_inputs, max_new_tokens=30, do_sample=False)
    text = tokenizer.batch_decode(generated_ids)[0]
    assert text.startswith(prompt)
    assert model.dtype == torch.bfloat16
    assert generated_ids.shape[1] <= len(model_inputs.input_ids[0]) + 30


# what transformers is asked for too; temperature, top-k and top-p only count where tokens are sampled
OPTIONS = [
    {"do_sample": True, "top_k": 0},
    {"do_sample": True, "top_k": 5},
    {"do_sample": True, "top_k": 0, "top_p": 0.3},
    {"do_sample": True, "top_k": 40, "top_p": 0.9, "temperature": 1.5},
    {"do_sample": True, "top_k": 0, "temperature": 0.3, "repetition_penalty": 1.3},
    {"do_sample": False, "repetition_penalty": 1.7},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_ids_equal_those_that_transformers_draws_from_the_same_generator(options) -> None:
    """Rows: without padding, padded on the left, and of padding alone."""
    theirs, ours = pair("ForCausalLM", "sdpa")
    ids, mask, _ = padded(random_ids((3, 12)), [0, 5, 12])
    torch.manual_seed(7)
    got = ours.generate(ids, mask, max_new_tokens=40, **options)
    torch.manual_seed(7)
    wanted = theirs.generate(ids, attention_mask=mask, max_new_tokens=40, **options)
    assert got.tolist() == wanted.tolist()


def test_token_types_go_on_as_they_end() -> None:
    theirs, ours = pair("ForCausalLM", "sdpa")
    ids, types = random_ids((2, 9)), random_ids((2, 9), seed=2)
    got = ours.generate(ids, token_type_ids=types, max_new_tokens=20)
    wanted = theirs.generate(ids, attention_mask=torch.ones_like(ids), token_type_ids=types, max_new_tokens=20, do_sample=False)
    assert got.tolist() == wanted.tolist()


@given(
    seed=st.integers(0, 1000),
    k=st.sampled_from([1, 2, 7, 19, 20, 21, 1000]),
    p=st.sampled_from([0.0, 1e-9, 0.1, 0.5, 0.999, 1.0 - 1e-7]),
    penalty=st.sampled_from([0.5, 1.2, 5.0]),
)
@settings(max_examples=100, deadline=None)
def test_processors_equal_those_of_transformers(seed, k, p, penalty) -> None:
    """Also with ties, tokens that are out already, more than the vocabulary, and one token left."""
    generator = torch.Generator().manual_seed(seed)
    logits = (torch.randn((3, 20), generator=generator) * 2).round(decimals=seed % 2)  # every second one full of ties
    logits[0, 5:9] = -torch.inf
    ids = torch.randint(20, (3, 11), generator=generator)
    assert torch.equal(keep_top_k(logits, k), logits_process.TopKLogitsWarper(k)(ids, logits))
    assert torch.equal(keep_top_p(logits, p), logits_process.TopPLogitsWarper(p)(ids, logits))
    theirs = logits_process.RepetitionPenaltyLogitsProcessor(penalty)
    assert torch.equal(penalise_repetition(logits, ids, penalty), theirs(ids, logits.clone()))


# temperature, top-k, top-p
DISTRIBUTIONS = [(1.0, None, None), (0.6, None, None), (2.0, None, None), (1.0, 4, None), (1.0, None, 0.8), (0.7, 6, 0.9)]


@pytest.mark.parametrize(("temperature", "top_k", "top_p"), DISTRIBUTIONS)
def test_sampling_follows_the_exact_probabilities(temperature, top_k, top_p) -> None:
    probs = torch.tensor([0.3, 0.25, 0.15, 0.1, 0.08, 0.06, 0.04, 0.02], dtype=torch.float64)
    exact = probs ** (1 / temperature)
    exact[top_k or 8 :] = 0
    exact /= exact.sum()
    if top_p is not None:
        exact[1:][exact.cumsum(0)[:-1] >= top_p] = 0
        exact /= exact.sum()
    n_draws = 8000
    sampling = Sampling(True, temperature, top_k, top_p, seed=11)
    logits = sampling.process(probs.log().float().repeat(n_draws, 1), torch.zeros((n_draws, 1), dtype=torch.long))
    counts = sampling.choose(logits, sampling.generator(logits.device)).bincount(minlength=8)
    possible = exact > 0
    assert counts[~possible].sum() == 0
    expected = exact[possible] * n_draws
    assert ((counts[possible] - expected) ** 2 / expected).sum() < CHI_SQUARE_7


def test_drawing_is_torchs_multinomial_without_its_checks() -> None:
    probs = torch.rand((50, 30), generator=torch.Generator().manual_seed(0)).softmax(-1)
    wanted = torch.multinomial(probs, 1, generator=torch.Generator().manual_seed(5))[:, 0]
    assert torch.equal(draw(probs, torch.Generator().manual_seed(5)), wanted)


def test_a_generated_token_follows_the_models_probabilities() -> None:
    _, ours = pair("ForCausalLM", "sdpa", vocab_size=8, initializer_range=0.4)
    ids = torch.tensor([[3, 4, 5]])
    expected = ours(ids).logits[0, -1].detach().softmax(-1) * 4000
    rows = ours.generate(ids.repeat(4000, 1), max_new_tokens=1, do_sample=True, seed=3)
    counts = rows[:, -1].bincount(minlength=8)
    assert ((counts - expected) ** 2 / expected).sum() < CHI_SQUARE_7


def test_a_seed_makes_sampling_repeat_itself_and_touches_no_other_generator() -> None:
    _, ours = pair("ForCausalLM", "sdpa")
    ids = random_ids((2, 9))

    def go_on(seed: int) -> list[list[int]]:
        return ours.generate(ids, max_new_tokens=20, do_sample=True, seed=seed, **NO_END).tolist()

    state = torch.get_rng_state()
    assert go_on(1) == go_on(1)
    assert go_on(1) != go_on(2)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_row_that_ended_is_padded_while_others_go_on() -> None:
    theirs, ours = pair("ForCausalLM", "sdpa")
    ids = random_ids((4, 6))
    free = ours.generate(ids, max_new_tokens=30, **NO_END)
    for eos in ([int(free[0, 10])], [int(free[1, 8]), int(free[2, 25])], [int(free[0, 6]), int(free[1, 6])]):
        got = ours.generate(ids, max_new_tokens=30, eos_token_id=eos)
        wanted = theirs.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=30, eos_token_id=eos, do_sample=False)
        assert got.tolist() == wanted.tolist()


def test_generation_ends_where_all_rows_have_met_a_stop() -> None:
    _, ours = pair("ForCausalLM", "sdpa")
    ids = random_ids((2, 6))
    free = ours.generate(ids, max_new_tokens=30, **NO_END)
    stops = [free[0, 9:12].tolist(), free[1, 15:17].tolist()]
    got = ours.generate(ids, max_new_tokens=30, stop=stops, pad_token_id=77, **NO_END)
    assert 7 <= got.shape[1] <= 17
    for row, whole in zip(got.tolist(), free.tolist(), strict=True):
        n_kept = len(row) - row[::-1].index(next(token for token in row[::-1] if token != 77))
        assert row[:n_kept] == whole[:n_kept]
        assert any(row[:n_kept][-len(stop) :] == stop for stop in stops)


def test_padding_ids_are_never_chosen(checkpoint, tmp_path) -> None:
    """The embedding has more rows than the tokenizer has ids: a padded row may be likely, in a random model."""
    folder = Path(shutil.copytree(checkpoint, tmp_path / "model"))
    tokenizer = (folder / "tokenizer.json").read_text("utf-8")
    n_used = GPTBigCodeForCausalLM.from_pretrained(folder).n_used_ids
    assert n_used == 8192
    ours = GPTBigCodeForCausalLM.from_pretrained(folder)
    ours.n_used_ids = 40
    ids = random_ids((3, 5), 40)
    for options in ({}, {"do_sample": True, "seed": 1}):
        assert ours.generate(ids, max_new_tokens=30, **options, **NO_END).max() < 40
    (folder / "tokenizer.json").write_text(tokenizer.replace(":8191", ":8190").replace(": 8191", ": 8190"), "utf-8")
    assert GPTBigCodeForCausalLM.from_pretrained(folder).n_used_ids == 8191


@pytest.mark.parametrize("options", [{}, {"do_sample": True, "top_k": 9, "top_p": 0.9, "repetition_penalty": 1.1}])
def test_the_loop_never_waits_for_the_device(options) -> None:
    """No operation reads a tensor's value back, and tensors made of host values do not become more with the tokens."""
    _, ours = pair("ForCausalLM", "sdpa")
    ids, mask, _ = padded(random_ids((2, 9)), [0, 4])
    n_host = []
    for n_new in (3, 23):
        with Recorder() as recorder:
            ours.generate(ids, mask, max_new_tokens=n_new, eos_token_id=[97, 98], stop=[[5, 6]], **options)
        assert not {name for name in SYNCHRONISING if recorder.n_calls[name]} - {"_to_copy"}
        n_host.append(sum(recorder.n_calls[name] for name in HOST_TENSORS))
    assert n_host[0] == n_host[1]


def test_what_was_generated_may_go_into_training() -> None:
    _, ours = pair("ForCausalLM", "eager")
    ids = ours.generate(random_ids((1, 5)), max_new_tokens=5)
    ours.train()(ids, labels=ids).loss.backward()


def test_more_tokens_than_positions_are_refused_before_anything_is_computed() -> None:
    _, ours = pair("ForCausalLM", "sdpa", n_positions=16)
    ids = random_ids((1, 10))
    assert ours.generate(ids, max_new_tokens=7, **NO_END).shape == (1, 17)  # the last is never fed back
    with pytest.raises(ContextTooLong, match="10 tokens and 8 new ones do not fit the model's 16 positions"):
        ours.generate(ids, max_new_tokens=8)


REFUSED = [
    ({"max_new_tokens": 0}, "max_new_tokens is 0, must be at least 1"),
    ({"temperature": 0.0, "do_sample": True}, "temperature is 0.0, must be above 0; do_sample=False is greedy"),
    ({"top_k": -1}, "top_k is -1"),
    ({"top_p": 1.5}, r"top_p is 1\.5, must be between 0 and 1"),
    ({"repetition_penalty": 0.0}, r"repetition_penalty is 0\.0"),
    ({"stop": ["\n"]}, "is no sequence of token ids; encode text with the tokenizer first"),
    ({"stop": [[]]}, "is no sequence of token ids"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_a_value_that_cannot_be_is_refused(options, message) -> None:
    _, ours = pair("ForCausalLM", "sdpa")
    with pytest.raises(ValueError, match=message):
        ours.generate(random_ids((1, 3)), **options)
