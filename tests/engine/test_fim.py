"""Prompts are laid out as trained, and their edges stand still while a person types."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from engine.api import Order
from engine.fim import N_SPECIAL, build_prompt, fit
from engine.tokenizer import SpecialIds

SPECIAL = SpecialIds(end_of_text=0, fim_prefix=1, fim_middle=2, fim_suffix=3)


def test_spm_is_prefix_mark_suffix_mark_suffix_middle_mark_prefix() -> None:
    assert build_prompt([10, 11], [20], Order.SPM, SPECIAL).ids == (1, 3, 20, 2, 10, 11)


def test_psm_is_prefix_suffix_middle_mark() -> None:
    assert build_prompt([10, 11], [20], Order.PSM, SPECIAL).ids == (1, 10, 11, 3, 20, 2)


def test_text_that_fits_is_not_cut() -> None:
    assert fit([1] * 60, [2] * 20, 100) == ([1] * 60, [2] * 20)


@given(st.integers(0, 400), st.integers(0, 400), st.integers(0, 200))
def test_the_prompt_never_passes_its_limit(n_prefix, n_suffix, n_tokens) -> None:
    prefix, suffix = fit(range(n_prefix), range(n_suffix), n_tokens)
    assert len(prefix) + len(suffix) <= max(n_tokens - N_SPECIAL, 0)
    assert list(prefix) == list(range(n_prefix))[n_prefix - len(prefix) :]
    assert list(suffix) == list(range(n_suffix))[: len(suffix)]


def test_a_long_prefix_keeps_its_edge_for_a_quarter_of_its_window() -> None:
    edges = [n_prefix - len(fit(range(n_prefix), (), 400)[0]) for n_prefix in range(1000)]
    steps = [b - a for a, b in itertools.pairwise(sorted(set(edges)))]
    assert set(steps) == {int((400 - N_SPECIAL) * 0.75) // 4}


@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 500))
def test_neither_part_looks_at_the_other(n_prefix, n_suffix, n_other) -> None:
    prefix, suffix = range(n_prefix), range(n_suffix)
    assert fit(prefix, suffix, 300)[0] == fit(prefix, range(n_other), 300)[0]
    assert fit(prefix, suffix, 300)[1] == fit(range(n_other), suffix, 300)[1]
