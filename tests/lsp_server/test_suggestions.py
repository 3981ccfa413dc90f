"""Answers from memory."""

from __future__ import annotations

import pytest

from lsp_server.suggestions import Completion, Suggestions
from tests.lsp_server.places import prompt_at

BASE = prompt_at("total = ┃\nprint(total)\n")


def check(marked: str, expected: str | None, text: str = "sum(items)") -> None:
    suggestions = Suggestions()
    suggestions.remember("u", Completion(BASE, text))
    assert suggestions.recall("u", prompt_at(marked)) == expected


@pytest.mark.parametrize(
    ("marked", "expected"),
    [
        ("total = ┃\nprint(total)\n", "sum(items)"),
        ("total = su┃\nprint(total)\n", "m(items)"),
        ("total = sum(┃)\nprint(total)\n", "items)"),
        ("total = sum(items)┃\nprint(total)\n", None),
        ("total = sub┃\nprint(total)\n", None),
        ("total =┃\nprint(total)\n", None),
        ("total = s┃\nprint(totals)\n", None),
        ("a\ntotal = s┃\nprint(total)\n", None),
    ],
)
def test_typing_into_a_completion_leaves_its_rest(marked, expected) -> None:
    check(marked, expected)


def test_a_completion_of_nothing_answers_its_own_place_only() -> None:
    check("total = ┃\nprint(total)\n", "", text="")
    check("total = s┃\nprint(total)\n", None, text="")


def test_the_newest_that_agrees_is_taken_and_older_ones_are_still_known() -> None:
    suggestions = Suggestions()
    suggestions.remember("u", Completion(BASE, "sum(items)"))
    suggestions.remember("u", Completion(BASE, "len(items)"))
    assert suggestions.recall("u", BASE) == "len(items)"
    assert suggestions.recall("u", prompt_at("total = s┃\nprint(total)\n")) == "um(items)"


def test_documents_are_apart_and_forgotten() -> None:
    suggestions = Suggestions()
    suggestions.remember("u", Completion(BASE, "sum(items)"))
    assert suggestions.recall("v", BASE) is None
    suggestions.forget("u")
    assert suggestions.recall("u", BASE) is None
