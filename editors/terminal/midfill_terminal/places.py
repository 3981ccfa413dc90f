"""Where in which file a suggestion is wanted: FILE:LINE:COL, or the marks inside a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MARK = "┃"


class PlaceError(Exception):
    """A place that does not exist; the message says what is there."""


@dataclass(frozen=True, slots=True)
class Place:
    """A text without marks, and the cursor as an offset into it."""

    path: Path
    text: str
    offset: int

    @property
    def line(self) -> int:
        """The cursor's line, from 0."""
        return self.text.count("\n", 0, self.offset)

    @property
    def character(self) -> int:
        """The cursor's place in its line, in code points from 0."""
        return self.offset - (self.text.rfind("\n", 0, self.offset) + 1)


def find_places(spec: str) -> list[Place]:
    """The places that FILE:LINE:COL (both from 1, as editors count) or a FILE with marks names.

    Raises: PlaceError where the file, the line or a mark is missing.
    """
    name, line, column = _split(spec)
    path = Path(name)
    try:
        text = path.read_bytes().decode("utf-8")  # bytes: reading as text would turn CRLF into LF
    except OSError as error:
        raise PlaceError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise PlaceError(f"{path}: is not UTF-8: {error.reason} at byte {error.start}") from error
    if line is None or column is None:
        return _marked(path, text)
    lines = text.split("\n")
    if not 1 <= line <= len(lines):
        raise PlaceError(f"{path}: has {len(lines)} lines, line {line} was asked for")
    if not 1 <= column <= len(lines[line - 1]) + 1:
        raise PlaceError(f"{path}:{line}: has {len(lines[line - 1])} characters, column {column} was asked for")
    return [Place(path, text, sum(len(each) + 1 for each in lines[: line - 1]) + column - 1)]


def _split(spec: str) -> tuple[str, int | None, int | None]:
    parts = spec.rsplit(":", 2)
    if len(parts) == 3 and parts[1].isdecimal() and parts[2].isdecimal():
        return parts[0], int(parts[1]), int(parts[2])
    return spec, None, None


def _marked(path: Path, text: str) -> list[Place]:
    pieces = text.split(MARK)
    if len(pieces) == 1:
        raise PlaceError(f"{path}: name a place as {path}:LINE:COL, or mark one in the file with {MARK}")
    plain = "".join(pieces)
    return [Place(path, plain, sum(map(len, pieces[: idx + 1]))) for idx in range(len(pieces) - 1)]
