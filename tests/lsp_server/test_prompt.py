"""The windows: what they hold, and that they stand still."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsp_server.prompt import Prompt, after_enter, cut
from lsp_server.text import Text
from tests.lsp_server.places import prompt_at

CODE = "".join(f"def function_{i}(argument):\n    return argument + {i}\n\n" for i in range(400))
TEXT = Text.of(CODE)
MAX_CHARS = 1024
STEP = MAX_CHARS * 3 // 4 // 4


@pytest.mark.parametrize(
    ("marked", "expected"),
    [
        ("a = ┃\nb\n", Prompt("a = ", "\nb\n")),
        ("f(┃)\nb\n", Prompt("f(", "\nb\n", ")")),
        ("f(['┃'],  )\r\nb\n", Prompt("f(['", "\r\nb\n", "'],  )")),
        ("<a href=┃ />\n", Prompt("<a href=", "\n", " />")),
        ("a ┃+ b\nc", Prompt("a ", "+ b\nc")),
        ("┃", Prompt("", "")),
        ("a\r┃\rb", Prompt("a\r", "\rb")),
        ("form\x0c┃\x0cfeed\n", Prompt("form\x0c", "\x0cfeed\n")),
    ],
)
def test_the_suffix_begins_at_the_line_end_where_only_closers_follow(marked, expected) -> None:
    assert prompt_at(marked) == expected


@given(st.integers(0, len(CODE)))
def test_the_windows_are_text_as_it_stands_and_within_their_limit(offset) -> None:
    prompt = cut(TEXT, offset, MAX_CHARS)
    assert CODE[:offset].endswith(prompt.prefix)
    assert CODE[offset:].startswith(prompt.closers + prompt.suffix)
    assert len(prompt.prefix) + len(prompt.suffix) <= MAX_CHARS
    assert len(prompt.prefix) >= min(offset, MAX_CHARS * 3 // 4 - 2 * STEP)


@given(st.integers(MAX_CHARS, len(CODE) - MAX_CHARS))
def test_edges_away_from_the_document_s_ends_are_line_starts(offset) -> None:
    prompt = cut(TEXT, offset, MAX_CHARS)
    assert CODE[offset - len(prompt.prefix) - 1] == "\n"
    assert prompt.suffix.endswith("\n")


def test_the_left_edge_moves_once_per_step_of_the_grid_and_typing_never_moves_the_right_one() -> None:
    offset = 6000
    line_end = CODE.index("\n", offset)
    typed = "x" * 2000
    base = cut(Text.of(CODE[:line_end] + CODE[line_end:]), line_end, MAX_CHARS)
    lefts, rights = set(), set()
    for n in range(0, len(typed), 7):
        prompt = cut(Text.of(CODE[:line_end] + typed[:n] + CODE[line_end:]), line_end + n, MAX_CHARS)
        lefts.add(line_end + n - len(prompt.prefix))
        rights.add(prompt.suffix)
    assert rights == {base.suffix}
    assert len(lefts) <= 2000 // STEP + 2


def test_a_giant_line_is_cut_at_the_grid_itself() -> None:
    giant = Text.of("x" * 100_000)
    one, other = cut(giant, 50_000, MAX_CHARS), cut(giant, 50_001, MAX_CHARS)
    assert len(other.prefix) - len(one.prefix) == 1
    assert (50_000 - len(one.prefix)) % STEP == 0


class CountingText:
    """Counts the characters that are taken out of a text."""

    def __init__(self, text: Text) -> None:
        self._text = text
        self.n_sliced = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._text, name)

    def slice(self, start: int, end: int) -> str:
        taken = self._text.slice(start, end)
        self.n_sliced += len(taken)
        return taken


@pytest.mark.parametrize("filling", [CODE, "x" * len(CODE)], ids=["lines", "one line"])
def test_the_cost_does_not_grow_with_the_document(filling) -> None:
    for n_times in (1, 50):
        text = CountingText(Text.of(filling * n_times))
        cut(text, text.n_chars // 2, MAX_CHARS)
        assert text.n_sliced <= MAX_CHARS + 128


def test_what_was_typed_since_is_told_only_where_nothing_else_changed() -> None:
    base = prompt_at("a = ┃\nb")
    assert prompt_at("a = fo┃\nb").typed_since(base) == "fo"
    assert prompt_at("a = fo(┃)\nb").typed_since(base) == "fo("
    assert prompt_at("a =┃\nb").typed_since(base) is None
    assert prompt_at("a = f┃\nc").typed_since(base) is None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("function f() {┃}\nf();\n", "function f() {\n  ┃\n}\nf();\n"),
        ("  let x = [┃];\n", "  let x = [\n    ┃\n  ];\n"),
        ("call(f({┃}));", "call(f({\n  ┃\n}));"),
        ("x = {┃\n", None),
        ("x = (┃]\n", None),
        ("x = {┃} + 1\n", None),
        ("┃}\n", None),
        ("┃", None),
    ],
)
def test_enter_between_brackets_is_foreseen_as_the_editor_will_do_it(before, after) -> None:
    assert after_enter(prompt_at(before), "  ") == (prompt_at(after) if after else None)
