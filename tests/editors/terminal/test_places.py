"""Places are named by line and column, or marked in the file."""

from __future__ import annotations

import pytest
from midfill_terminal.places import MARK, PlaceError, find_places


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "a.py"
    path.write_bytes("x = 'é🙂'\r\ny = 2\n".encode())
    return path


@pytest.mark.parametrize(
    ("place", "before"),
    [
        ("1:1", ""),
        ("1:8", "x = 'é🙂"),
        ("2:1", "x = 'é🙂'\r\n"),
        ("2:6", "x = 'é🙂'\r\ny = 2"),
        ("3:1", "x = 'é🙂'\r\ny = 2\n"),
    ],
)
def test_line_and_column_count_from_one(source, place, before) -> None:
    (found,) = find_places(f"{source}:{place}")
    assert found.text[: found.offset] == before
    assert f"{found.line + 1}:{found.character + 1}" == place


def test_marks_are_taken_out_of_the_text(tmp_path) -> None:
    path = tmp_path / "marked.py"
    path.write_text(f"a{MARK}b\nc{MARK}\n", "utf-8")
    found = find_places(str(path))
    assert [(place.text, place.offset) for place in found] == [("ab\nc\n", 1), ("ab\nc\n", 4)]


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (":9:1", "has 3 lines, line 9 was asked for"),
        (":2:7", "has 5 characters, column 7 was asked for"),
        (":0:1", "line 0 was asked for"),
        ("", r"name a place as .*a\.py:LINE:COL, or mark one"),
        (".missing", "cannot be read: No such file or directory"),
    ],
)
def test_a_place_that_does_not_exist_is_named(source, place, message) -> None:
    with pytest.raises(PlaceError, match=message):
        find_places(f"{source}{place}")


def test_a_file_that_is_not_utf8_is_named(tmp_path) -> None:
    path = tmp_path / "latin.py"
    path.write_bytes(b"x = '\xe9'")
    with pytest.raises(PlaceError, match=r"is not UTF-8: .* at byte 5"):
        find_places(f"{path}:1:1")
