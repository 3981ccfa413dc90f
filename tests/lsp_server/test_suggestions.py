"""Answers from memory: of what was written, and of what was shown."""

from __future__ import annotations

import pytest

from lsp_server.documents import Document, Query
from lsp_server.suggestions import Completion, Suggestions
from lsp_server.text import Text
from lsp_server.verdict import Reason
from tests.lsp_server.places import prompt_at, split

BASE = prompt_at("total = ┃\nprint(total)\n")


class Editor:
    """A memory, and one document's cursor in it."""

    def __init__(self) -> None:
        self.memory = Suggestions()

    def write(self, *texts: str, marked: str = "total = ┃\nprint(total)\n") -> tuple[Completion, ...]:
        completions = tuple(Completion(self.memory.new_id(), prompt_at(marked), text) for text in texts)
        self.memory.remember("u", completions)
        return completions

    def show(self, *texts: str, marked: str = "total = ┃\nprint(total)\n") -> str:
        """Shows filtered texts of what was written and gives the first one's id."""
        before, after = split(marked)
        document = Document(uri="u", language="", version=1, text=Text.of(before + after))
        return self.memory.serve(Query(document, len(before)), self.write(*texts, marked=marked))[0].id

    def recalled(self, marked: str, *, invoked: bool = False) -> list[str] | None:
        found = self.memory.recall("u", prompt_at(marked), invoked=invoked)
        return None if found is None else [each.text for each in found]

    def why_unwanted(self, marked: str) -> Reason | None:
        before, after = split(marked)
        document = Document(uri="u", language="", version=1, text=Text.of(before + after))
        recalled = self.memory.recall("u", prompt_at(marked), invoked=False)
        assert recalled
        return self.memory.why_unwanted(Query(document, len(before)), recalled[0])

    def shown(self, marked: str, *, invoked: bool = False) -> list[str]:
        return [each.text for each in self.memory.shown("u", prompt_at(marked), invoked=invoked)]


TYPED = [
    ("total = ┃\nprint(total)\n", "sum(items)"),
    ("total = su┃\nprint(total)\n", "m(items)"),
    ("total = sum(items)┃\nprint(total)\n", None),
    ("total = sub┃\nprint(total)\n", None),
    ("total =┃\nprint(total)\n", None),
    ("total = s┃\nprint(totals)\n", None),
    ("a\ntotal = s┃\nprint(total)\n", None),
]


@pytest.mark.parametrize(("marked", "expected"), [*TYPED, ("total = sum(┃)\nprint(total)\n", "items)")])
def test_typing_into_a_completion_leaves_its_rest(marked, expected) -> None:
    editor = Editor()
    editor.write("sum(items)")
    assert editor.recalled(marked) == (None if expected is None else [expected])


@pytest.mark.parametrize(("marked", "expected"), [*TYPED, ("total = sum(┃)\nprint(total)\n", None)])
def test_what_was_shown_stays_as_it_was_shown_while_the_closers_behind_it_do(marked, expected) -> None:
    editor = Editor()
    editor.show("sum(items)")
    assert editor.shown(marked) == ([] if expected is None else [expected])


def test_a_completion_of_nothing_answers_its_own_place_only() -> None:
    editor = Editor()
    editor.write("")
    assert editor.recalled("total = ┃\nprint(total)\n") == [""]
    assert editor.recalled("total = s┃\nprint(total)\n") is None
    assert editor.recalled("total = ┃\nprint(total)\n", invoked=True) is None  # by hand the engine is asked again


def test_the_newest_that_agrees_is_taken_and_older_ones_are_still_known() -> None:
    editor = Editor()
    editor.show("sum(items)")
    editor.show("len(items)")
    assert editor.recalled("total = ┃\nprint(total)\n") == ["len(items)"]
    assert editor.shown("total = l┃\nprint(total)\n") == ["en(items)"]
    assert editor.shown("total = s┃\nprint(total)\n") == ["um(items)"]


def test_the_rest_of_a_suggestion_bears_its_id() -> None:
    editor = Editor()
    shown = editor.show("sum(items)")
    [rest] = editor.memory.shown("u", prompt_at("total = su┃\nprint(total)\n"), invoked=False)
    found = editor.memory.find(rest.id)
    assert (rest.id, found and found[1].text) == (shown, "sum(items)")


def test_what_was_dismissed_is_not_offered_again_by_itself_and_one_key_restores_it() -> None:
    editor = Editor()
    editor.memory.dismiss(editor.show("sum(items)", "len(items)"))
    for marked in ("total = ┃\nprint(total)\n", "total = s┃\nprint(total)\n", "total = l┃\nprint(total)\n"):
        assert editor.shown(marked) == []
        assert editor.why_unwanted(marked) is Reason.DISMISSED
    assert editor.shown("total = s┃\nprint(total)\n", invoked=True) == ["um(items)"]


def test_asked_for_by_hand_what_fits_comes_back_unless_it_stands_there_already() -> None:
    editor = Editor()
    editor.show("sum(items)")
    assert editor.shown("total = ┃\nprint(total)\n", invoked=True) == []
    assert editor.recalled("total = ┃\nprint(total)\n", invoked=True) is None
    editor.show("other()", marked="x = ┃\n")
    assert editor.shown("total = s┃\nprint(total)\n", invoked=True) == ["um(items)"]


def test_alternatives_that_stand_there_are_given_again_and_not_computed() -> None:
    editor = Editor()
    editor.show("sum(items)", "sum(numbers)", "0")
    assert editor.shown("total = ┃\nprint(total)\n", invoked=True) == ["sum(items)", "sum(numbers)", "0"]
    assert editor.shown("total = sum(┃\nprint(total)\n", invoked=True) == ["items)", "numbers)"]


def test_documents_are_apart_and_forgotten() -> None:
    editor = Editor()
    shown = editor.show("sum(items)")
    assert editor.memory.recall("v", BASE, invoked=False) is None
    editor.memory.forget("u")
    assert editor.recalled("total = ┃\nprint(total)\n") is None
    assert editor.memory.find(shown) is None
    editor.memory.dismiss(shown)  # a report that comes late changes nothing
