"""Text against a naive model, in all three encodings, with pieces so small that every edit crosses their borders."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsp_server import text as text_module
from lsp_server.text import Encoding, Position, Text

HIGH, LOW = "\ud83d", "\ude00"
CHARS = "ab \t\n\r\x0b\x0c\x1c\x85\u2028é€😀𝒳\0" + HIGH + LOW
TEXTS = st.text(st.sampled_from(CHARS), max_size=40)
POSITIONS = st.builds(Position, st.integers(-1, 30), st.integers(-1, 50))


@pytest.fixture(autouse=True, scope="module")
def _small_pieces() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_module, "_PIECE_CHARS", 7)
        patch.setattr(text_module, "_MIN_PIECE_CHARS", 2)
        yield


def joined(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def units(text: str, encoding: Encoding) -> list[str]:
    """Spells a text in the client's units: one character for UTF-32 and UTF-8 bytes after the first are empty."""
    if encoding is Encoding.UTF_16:
        raw = text.encode("utf-16-le", "surrogatepass")
        return [raw[i : i + 2].decode("utf-16-le", "surrogatepass") for i in range(0, len(raw), 2)]
    if encoding is Encoding.UTF_8:
        return [unit for char in text for unit in [char, *[""] * (len(char.encode("utf-8", "surrogatepass")) - 1)]]
    return list(text)


def lines_of(text: str) -> list[str]:
    return re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z|\Z", text)


def naive_index(text: str, position: Position, encoding: Encoding) -> int:
    """Gives the index into `units(text)`, clamped; a UTF-8 position inside a character is moved before it."""
    lines = [line for line in lines_of(text) if line] or [""]
    if lines[-1].endswith(("\r", "\n")):
        lines.append("")
    if position.line < 0:
        return 0
    if position.line >= len(lines):
        return len(units(text, encoding))
    before = len(units("".join(lines[: position.line]), encoding))
    line = units(lines[position.line].rstrip("\r\n"), encoding)
    column = min(max(position.character, 0), len(line))
    while column < len(line) and line[column] == "":
        column -= 1
    return before + column


@given(TEXTS, st.lists(st.tuples(POSITIONS, POSITIONS, TEXTS), max_size=8), st.sampled_from(Encoding))
def test_edits_leave_the_text_that_the_client_has(text, edits, encoding) -> None:
    ours, model = Text.of(text, encoding), joined(text)
    for start, end, new in edits:
        ours = ours.replace(start, end, new)
        start, end = min(start, end), max(start, end)
        spelled = units(model, encoding)
        start_idx, end_idx = naive_index(model, start, encoding), naive_index(model, end, encoding)
        model = joined("".join([*spelled[:start_idx], new, *spelled[end_idx:]]))
        assert str(ours) == model
    assert ours.n_chars == len(model)


@given(TEXTS, POSITIONS, st.sampled_from(Encoding))
def test_positions_and_offsets_agree_with_a_naive_count(text, position, encoding) -> None:
    ours, model = Text.of(text, encoding), joined(text)
    spelled = units(model, encoding)
    idx = naive_index(model, position, encoding)
    offset = ours.offset(position)
    if encoding is Encoding.UTF_16:
        assert len(
            "".join(spelled[:idx]).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        ) - offset in (0, 1)
    else:
        assert offset == len("".join(spelled[:idx]))
    assert ours.offset(ours.position(offset)) == offset


@given(TEXTS)
def test_lines_begin_and_end_where_lsp_says(text) -> None:
    ours, model = Text.of(text), joined(text)
    ends = [match.span() for match in re.finditer(r"\r\n|\r|\n", model)]
    assert ours.n_lines == len(ends) + 1
    assert [ours.line_end(line) for line in range(ours.n_lines)] == [start for start, _ in ends] + [len(model)]
    assert [ours.line_start(line) for line in range(ours.n_lines)] == [0] + [end for _, end in ends]
    assert [ours.line(offset) for offset in range(len(model) + 1)] == [
        sum(end <= offset for _, end in ends) for offset in range(len(model) + 1)
    ]


@given(TEXTS, st.integers(0, 40), st.integers(0, 40))
def test_a_slice_is_that_of_the_text(text, start, end) -> None:
    model = joined(text)
    start, end = min(start, len(model)), min(end, len(model))
    assert Text.of(text).slice(start, end) == model[start:end]


def test_an_edit_leaves_the_old_text_as_it_was() -> None:
    old = Text.of("abc")
    new = old.replace(Position(0, 1), Position(0, 2), "x")
    assert (str(old), str(new)) == ("abc", "axc")


def test_an_emoji_typed_in_two_halves_becomes_one_character() -> None:
    half = Text.of("x = ''").replace(Position(0, 5), Position(0, 5), HIGH)
    whole = half.replace(Position(0, 6), Position(0, 6), LOW)
    assert str(whole) == "x = '😀'"


def test_a_deletion_inside_a_surrogate_pair_keeps_the_later_columns_true() -> None:
    halved = Text.of("a😀bc").replace(Position(0, 1), Position(0, 2), "")
    assert str(halved) == f"a{LOW}bc"
    assert str(halved.replace(Position(0, 3), Position(0, 4), "")) == f"a{LOW}b"
