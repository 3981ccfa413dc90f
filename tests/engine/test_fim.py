"""Prompts are laid out as trained, and their edges stand still while a person types."""

from __future__ import annotations

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
    assert fit([1] * 60, [2] * 37, 100) == ([1] * 60, [2] * 37)


@given(st.integers(0, 400), st.integers(0, 400), st.integers(0, 200))
def test_the_prompt_never_passes_its_limit(n_prefix, n_suffix, n_tokens) -> None:
    prefix, suffix = fit(list(range(n_prefix)), list(range(n_suffix)), n_tokens)
    assert len(prefix) + len(suffix) <= max(n_tokens - N_SPECIAL, 0)
    assert prefix == list(range(n_prefix))[n_prefix - len(prefix) :]
    assert suffix == list(range(n_suffix))[: len(suffix)]


@given(st.integers(0, 400))
def test_a_long_prefix_keeps_its_edge_for_many_tokens(n_suffix) -> None:
    suffix = list(range(n_suffix))
    edges = [n_prefix - len(fit([0] * n_prefix, suffix, 300)[0]) for n_prefix in range(500, 1000)]
    assert len(set(edges)) <= 500 // (300 // 8) + 2


@given(st.integers(0, 500))
def test_a_long_suffix_keeps_its_edge_for_many_tokens(n_suffix) -> None:
    suffix = list(range(n_suffix))
    edges = [len(fit([0] * n_prefix, suffix, 300)[1]) for n_prefix in range(500)]
    assert len(set(edges)) <= 500 // (300 // 8) + 2


def test_a_part_that_needs_less_leaves_room_to_the_other() -> None:
    assert len(fit([0] * 1000, [], 300)[0]) > 250
    assert len(fit([], [0] * 1000, 300)[1]) == 297
