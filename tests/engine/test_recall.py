"""What stands nearby, mixed into next-token distributions: which places speak, and for what."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.api import CheckpointError, Order, Request, Stop
from engine.fim import build_prompt
from engine.model_files import SHIPPED_MODEL
from engine.recall import EDGES, FILE, MOST_PLACES, Nearby, Recall, RecallWeights
from engine.sampler import Sampler
from engine.tokenizer import Tokenizer

WEIGHTS = RecallWeights(tuple(float(edge) / 4 - 2 for edge in EDGES), -0.2, 0.1, -0.1, 0.5, 0.0, -5.0, 0.5)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_pretrained(SHIPPED_MODEL)


def nearby(prefix: str, suffix: str, tokenizer: Tokenizer, *, one_line: bool = True) -> Nearby:
    ids = [tuple(tokenizer.encode(text)) for text in (prefix, suffix)]
    return Nearby(*ids, tokenizer, 32, one_line=one_line)


def recalled(prefix: str, suffix: str, tokenizer: Tokenizer, n_tokens: int) -> str:
    """What is written where the model has no opinion."""
    sampler = Sampler(tokenizer.n_vocab, recall=Recall(nearby(prefix, suffix, tokenizer), WEIGHTS))
    return tokenizer.decode([sampler(torch.zeros(tokenizer.n_vocab)).token_id for _ in range(n_tokens)])


# what stands above the cursor, below it, and what comes next
CASES = [
    ("reader.fetch(path, 1)\nreader.fe", "\n", "tch(path"),  # the cursor cuts a word that stands whole above
    ("\nself.", "\nself.total += 1\n", "total +="),  # below counts as well
    ("for item in items:\n    use(item)\nfor item in", "\n", " items:"),
    ("größe = breite * höhe\ngr", "\n", "öße = b"),  # bytes, not characters
]


@pytest.mark.parametrize(("prefix", "suffix", "expected"), CASES)
def test_goes_on_as_the_text_did_before(prefix: str, suffix: str, expected: str, tokenizer: Tokenizer) -> None:
    assert recalled(prefix, suffix, tokenizer, 8).startswith(expected)


def test_the_longer_agreement_counts_for_more(tokenizer: Tokenizer) -> None:
    assert recalled("alpha.beta = 1\nother.gamma = 2\nalpha.", "\n", tokenizer, 1) == "beta"


def test_a_newline_counts_as_the_end_where_one_line_is_wanted(tokenizer: Tokenizer) -> None:
    for one_line in (True, False):
        places = nearby("import numpy\nimport os\nimport nu", "\n", tokenizer, one_line=one_line)
        recall = Recall(places, WEIGHTS)
        sampler = Sampler(tokenizer.n_vocab, recall=recall)
        written = [sampler(torch.zeros(tokenizer.n_vocab)).token_id for _ in range(6)]
        assert (tokenizer.special.end_of_text in written) is one_line


def test_the_mixture_is_a_distribution_that_keeps_every_token_possible(tokenizer: Tokenizer) -> None:
    logprobs = torch.randn(tokenizer.n_vocab, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    mixed = Recall(nearby("a.b(c)\na.b(c)\na.b(", "\na.b(c)", tokenizer), WEIGHTS).mix(logprobs)
    assert float(mixed.exp().sum()) == pytest.approx(1, abs=1e-5)
    assert set(np.flatnonzero(~mixed.isfinite())) == set(tokenizer.ids_starting_with(b"\n"))  # they count as the end
    assert not mixed.equal(logprobs)


def test_all_that_ends_a_line_is_one_event(tokenizer: Tokenizer) -> None:
    logprobs = torch.randn(tokenizer.n_vocab, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    end, newlines = tokenizer.special.end_of_text, tokenizer.ids_starting_with(b"\n")
    pooled = nearby("x", "\n", tokenizer).with_one_end(logprobs).exp()
    assert float(pooled.sum()) == pytest.approx(1, abs=1e-5)
    assert float(pooled[end]) == pytest.approx(float(logprobs[[end, *newlines]].exp().sum()), abs=1e-6)
    assert nearby("x", "\n", tokenizer, one_line=False).with_one_end(logprobs) is logprobs


@pytest.mark.parametrize(("prefix", "suffix"), [("", ""), ("x", ""), ("", "\nabc"), ("q", "\nz"), ("\0\0", "\0\0\0")])
def test_where_nothing_agrees_the_model_alone_decides(prefix: str, suffix: str, tokenizer: Tokenizer) -> None:
    logprobs = torch.randn(tokenizer.n_vocab).log_softmax(-1)
    mixed = Recall(nearby(prefix, suffix, tokenizer, one_line=False), WEIGHTS).mix(logprobs)
    assert float(mixed.exp().sum()) == pytest.approx(1, abs=1e-5)
    if "\0" not in prefix:
        assert mixed.equal(logprobs)


def test_places_are_the_same_in_both_orders_and_wherever_a_middle_begins(tokenizer: Tokenizer) -> None:
    prefix, suffix = "total = first\nif total:\n    ", "\n    return total\n"
    prefix_ids, suffix_ids = tokenizer.encode(prefix), tokenizer.encode(suffix)
    special = tokenizer.special
    spm = build_prompt(prefix_ids, suffix_ids, Order.SPM, special)
    psm = build_prompt(prefix_ids, suffix_ids, Order.PSM, special)
    begun = build_prompt(prefix_ids[:4], suffix_ids, Order.PSM, special)
    half = replace(begun, ids=(*begun.ids, *prefix_ids[4:]))
    request = Request(document="", prefix=prefix, suffix=suffix, stop=Stop.NEWLINE)
    logprobs = torch.zeros(tokenizer.n_vocab).log_softmax(-1)
    mixed = [Recall.of_prompt(prompt, request, tokenizer, WEIGHTS).mix(logprobs) for prompt in (spm, psm, half)]
    assert mixed[0].equal(mixed[1])
    assert mixed[0].equal(mixed[2])


def test_agreement_never_crosses_from_below_the_cursor_to_above(tokenizer: Tokenizer) -> None:
    places = nearby("tail = 1\nxtail", "\nhead x", tokenizer).places()
    assert max(places.n_agreed) < 5  # `x` ends the suffix and `tail` begins the prefix, but they do not stand together


def by_hand(before: bytes, after: bytes) -> dict[tuple[int, bool], int]:
    """How many bytes agree at each place, by how far away it is and whether it is below."""
    found = {}
    for text, in_suffix in ((after, True), (before, False)):
        for end in range(2, len(text)):
            n_agreed = 0
            while n_agreed < min(end, len(before), EDGES[-1]) and text[end - 1 - n_agreed] == before[-1 - n_agreed]:
                n_agreed += 1
            if n_agreed >= EDGES[0]:
                found[end if in_suffix else len(before) - end, in_suffix] = n_agreed
    return found


@given(st.text("ab\n", max_size=60), st.text("ab\n", max_size=30), st.text("ab", max_size=4))
def test_places_are_those_found_by_hand(tokenizer: Tokenizer, prefix: str, suffix: str, more: str) -> None:
    text = nearby(prefix, suffix, tokenizer, one_line=False)
    for token_id in tokenizer.encode(more):
        text.append(token_id)
    places = text.places()
    expected = by_hand((prefix + more).encode(), suffix.encode())
    columns = (places.n_away.tolist(), places.in_suffix.tolist(), places.n_agreed.tolist())
    got = {(n_away, in_suffix): n_agreed for n_away, in_suffix, n_agreed in zip(*columns, strict=True)}
    if len(expected) <= MOST_PLACES:
        assert got == expected
    else:
        assert sorted(got.values()) == sorted(expected.values())[-MOST_PLACES:]


def test_weights_are_read_back_as_written(tmp_path: Path) -> None:
    assert RecallWeights.from_folder(tmp_path) is None
    WEIGHTS.save(tmp_path)
    assert RecallWeights.from_folder(tmp_path) == WEIGHTS


DAMAGED = [
    "{",
    "[]",
    '{"agreement": [1, 2]}',
    json.dumps({"agreement": [0.0], **dict.fromkeys(RecallWeights.__slots__[1:], 0)}),
    json.dumps({"agreement": [float("nan")] * len(EDGES), **dict.fromkeys(RecallWeights.__slots__[1:], 0)}),
]


@pytest.mark.parametrize("text", DAMAGED)
def test_damaged_weights_name_the_file(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(CheckpointError, match=r"recall\.json"):
        RecallWeights.from_folder(tmp_path)


def test_what_is_known_to_come_is_part_of_what_agrees(tokenizer: Tokenizer) -> None:
    """A word taken back from `prefix + word` finds the places that the word's beginning names."""
    prefix = tuple(tokenizer.encode("total = first\nother = second\nvalue ="))
    nearby = Nearby(prefix, (), tokenizer, 4, one_line=True)
    (first,) = tokenizer.encode(" first")
    (second,) = tokenizer.encode(" second")
    assert set(nearby.places().token_ids) == {first, second}
    assert set(nearby.places(b" fi").token_ids) == {first}
    assert set(nearby.places(b" xy").token_ids) == set()
    assert max(nearby.places(b" fi").n_agreed) > max(nearby.places().n_agreed)
