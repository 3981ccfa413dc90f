"""Samples and rows: the layout that is served, exact windows, and rows without a gap."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from engine.api import Order
from engine.model_files import SHIPPED_MODEL
from engine.tokenizer import Tokenizer
from engine.training.batches import Batches, BatchOptions, pack
from engine.training.samples import Hole, Kind, Sample, draw_hole, fim_sample, line_around, text_sample
from engine.training.texts import Texts

CODE = "".join(
    f"def function_{n}(value, other):\n    size = value.size + {n}\n\n    return [size, other]\n\n" for n in range(200)
)
HOLES = [kind for kind in Kind if kind is not Kind.TEXT]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_pretrained(SHIPPED_MODEL)


@pytest.fixture(scope="module")
def batches(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Batches:
    path = tmp_path_factory.mktemp("corpus") / "train"
    documents = [CODE.replace("function", name) for name in ("first", "second")]
    path.with_suffix(".txt").write_text("".join(documents))
    np.save(path.with_suffix(".npy"), np.cumsum([len(document) for document in documents]))
    return Batches(Texts(path), tokenizer, BatchOptions(n_rows=2, row_tokens=1024, n_positions=256))


@pytest.mark.parametrize(
    ("order", "layout"),
    [
        (Order.SPM, ["<fim_prefix>", "<fim_suffix>", "\n    S\n", "<fim_middle>", "def P(M):", "<|endoftext|>"]),
        (Order.PSM, ["<fim_prefix>", "def P(", "<fim_suffix>", "\n    S\n", "<fim_middle>", "M):", "<|endoftext|>"]),
    ],
)
def test_sample_has_the_served_layout(order: Order, layout: list[str], tokenizer: Tokenizer) -> None:
    special = {
        "<fim_prefix>": tokenizer.special.fim_prefix,
        "<fim_suffix>": tokenizer.special.fim_suffix,
        "<fim_middle>": tokenizer.special.fim_middle,
        "<|endoftext|>": tokenizer.special.end_of_text,
    }
    wanted = [ids for part in layout for ids in ([special[part]] if part in special else tokenizer.encode(part))]
    sample = fim_sample(Hole("def P(", "M):", "\n    S\n"), order, tokenizer)
    assert sample.ids == wanted
    assert tokenizer.decode(sample.ids[sample.n_prompt :]) == ("(M):" if order is Order.SPM else "M):")


@given(st.sampled_from(HOLES), st.integers(0, len(CODE) - 1), st.integers(0, 2**32))
def test_in_spm_no_word_is_cut_in_two(tokenizer: Tokenizer, kind: Kind, offset: int, seed: int) -> None:
    hole = draw_hole(CODE, offset, kind, 200, np.random.default_rng(seed))
    assume(hole.middle.lstrip()[:1] == hole.middle[:1] != "")  # white space cut in two: nobody knows that more will come
    ids = fim_sample(hole, Order.SPM, tokenizer).ids
    assert ids[ids.index(tokenizer.special.fim_middle) + 1 : -1] == tokenizer.encode(hole.prefix + hole.middle)


@given(st.sampled_from(HOLES), st.integers(0, len(CODE) - 1), st.integers(16, 2000), st.integers(0, 2**32))
def test_parts_of_a_hole_are_neighbours_in_the_document(kind: Kind, offset: int, n_tokens: int, seed: int) -> None:
    hole = draw_hole(CODE, offset, kind, n_tokens, np.random.default_rng(seed))
    whole = hole.prefix + hole.middle + hole.suffix
    assume("function" in whole)  # else it may stand elsewhere, too
    start = CODE.index(whole)
    end = start + len(whole)
    assert start == 0 or not hole.prefix or CODE[start - 1] == "\n"
    assert end == len(CODE) or not hole.suffix or CODE[end] == "\n"


@given(st.integers(0, len(CODE) - 1), st.integers(0, 2**32))
def test_a_line_hole_ends_before_the_newline_that_begins_its_suffix(offset: int, seed: int) -> None:
    hole = draw_hole(CODE, offset, Kind.LINE, 300, np.random.default_rng(seed))
    assert "\n" not in hole.middle
    assert hole.suffix[:1] in ("\n", "")


def test_blank_lines_are_passed_over() -> None:
    text = "a\n\n  \nbc\n"
    assert line_around(text, 2) == (6, 8)


def test_plain_text_begins_at_a_line_and_marks_the_end(tokenizer: Tokenizer) -> None:
    ids = text_sample("ab = 1\ncd = 2\n", 9, 100, tokenizer).ids
    assert tokenizer.decode(ids) == "cd = 2\n"
    assert ids[-1] == tokenizer.special.end_of_text
    assert text_sample("ab = 1\ncd = 2\n", 9, 2, tokenizer).ids == ids[:2]


def test_rows_are_full_and_positions_start_over(batches: Batches) -> None:
    for row in batches.batch(3):
        assert len(row.ids) == len(row.labels) == sum(row.lengths) == 1024
        assert max(row.lengths) <= 256
        starts = np.cumsum((0, *row.lengths[:-1]))
        assert row.positions[starts].tolist() == [0] * len(row.lengths)
        assert int(row.positions.max()) == max(row.lengths) - 1


def test_batches_grow_at_the_steps_given(batches: Batches) -> None:
    options = BatchOptions(n_rows=1, row_tokens=128, n_positions=128, grow_at=(3, 5))
    growing = Batches(batches.texts, batches.tokenizer, options)
    assert [len(growing.batch(step)) for step in (0, 2, 3, 4, 5)] == [1, 1, 2, 2, 4]


def test_a_batch_hangs_on_seed_and_step_alone(batches: Batches) -> None:
    streamed = batches.stream(5)
    first, second = next(streamed), next(streamed)
    streamed.close()
    assert all(a.ids.equal(b.ids) for a, b in zip(first, batches.batch(5), strict=True))
    assert all(a.ids.equal(b.ids) for a, b in zip(second, batches.batch(6), strict=True))
    assert not first[0].ids.equal(second[0].ids)


def test_the_last_token_of_a_sample_predicts_nothing() -> None:
    row = pack([Sample([5, 6, 7], 3), Sample([8, 9], 2)])
    assert row.labels.tolist() == [6, 7, 0, 9, 0]
    assert row.weights.tolist() == [1, 1, 0, 1, 0]
    assert row.positions.tolist() == [0, 1, 2, 0, 1]


def test_texts_know_their_documents(tmp_path: Path) -> None:
    path = tmp_path / "train"
    path.with_suffix(".txt").write_text("äbcd")
    np.save(path.with_suffix(".npy"), np.array([3, 5]))
    texts = Texts(path)
    assert [texts[0], texts[1]] == ["äb", "cd"]
    assert [texts.at(offset) for offset in range(texts.n_bytes)] == [0, 0, 0, 1, 1]


def test_a_middle_and_its_end_weigh_more_than_what_is_given() -> None:
    row = pack([Sample([5, 6, 7, 8], 2), Sample([8, 9], 2)], middle_weight=3)
    assert row.weights.tolist() == [1, 3, 3, 0, 1, 0]
