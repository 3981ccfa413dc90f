"""A document as the simplest thing that LSP allows: one string of UTF-16 units, searched from its start at each edit."""

from __future__ import annotations

import re


class ModelText:
    """Slow and obvious, to compare with."""

    def __init__(self, text: str) -> None:
        self._units = _units(text)

    def __str__(self) -> str:
        return self._units.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")

    def replace(self, start: tuple[int, int], end: tuple[int, int], text: str) -> None:
        first, last = sorted((self._index(*start), self._index(*end)))
        # What the halves of a pair meet in is a character again, which a copy by way of UTF-16 gives for nothing.
        self._units = self._units[:first] + _units(text) + self._units[last:]

    def _index(self, line: int, character: int) -> int:
        ends = [match.span() for match in re.finditer(r"\r\n|\r|\n", self._units)]
        if line > len(ends):
            return len(self._units)
        line_start = ends[line - 1][1] if line else 0
        line_end = ends[line][0] if line < len(ends) else len(self._units)
        return min(line_start + character, line_end)


def _units(text: str) -> str:
    raw = text.encode("utf-16-le", "surrogatepass")
    return "".join(chr(int.from_bytes(raw[at : at + 2], "little")) for at in range(0, len(raw), 2))
