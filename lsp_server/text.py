"""Immutable text addressed by LSP positions, edited at the cost of the edit.

The text is kept in pieces of a few thousand characters, with running sums of characters, client units and line
ends over the pieces. A position is two bisections and one look into a piece, however long the document or its
lines are; an edit makes one or two new pieces and sums again. One flat str was measured too: its line index
must be shifted behind every edit (1 ms at 20,000 lines), and a column late in a long line must be counted.

Sources: LSP 3.18 "Text Documents" (line ends are \\n, \\r\\n and \\r, and nothing else) and "Position".
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate

_LINE_END = re.compile(r"\r\n|\r|\n")
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_PIECE_CHARS = 2048  # 1024 and 4096 are no faster: the sums weigh against the look into a piece
_MIN_PIECE_CHARS = 512  # smaller ones, which deletions leave behind, are merged with a neighbour


class Encoding(StrEnum):
    """What one unit of `Position.character` counts."""

    UTF_8 = "utf-8"
    UTF_16 = "utf-16"
    UTF_32 = "utf-32"


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place as the client names it: a line, and a count of its encoding's units into it."""

    line: int
    character: int


@dataclass(frozen=True, slots=True)
class _Piece:
    """A few thousand characters; never ends inside \\r\\n or between two halves of a surrogate pair."""

    text: str
    n_units: int
    n_line_ends: int


@dataclass(frozen=True, slots=True)
class Text:
    """One version of a document's text. Offsets are indexes into it as a Python str."""

    encoding: Encoding
    _pieces: tuple[_Piece, ...]
    _chars: tuple[int, ...]  # running sums: before piece i there are _chars[i] characters
    _units: tuple[int, ...]
    _line_ends: tuple[int, ...]

    @classmethod
    def of(cls, text: str, encoding: Encoding = Encoding.UTF_16) -> Text:
        """Takes the text of a freshly opened document."""
        return cls._from_pieces(_split(text, encoding), encoding)

    @classmethod
    def _from_pieces(cls, pieces: tuple[_Piece, ...], encoding: Encoding) -> Text:
        return cls(
            encoding,
            pieces,
            tuple(accumulate([len(piece.text) for piece in pieces], initial=0)),
            tuple(accumulate([piece.n_units for piece in pieces], initial=0)),
            tuple(accumulate([piece.n_line_ends for piece in pieces], initial=0)),
        )

    def __str__(self) -> str:
        return "".join(piece.text for piece in self._pieces)

    @property
    def n_chars(self) -> int:
        return self._chars[-1]

    @property
    def n_lines(self) -> int:
        return self._line_ends[-1] + 1

    def slice(self, start: int, end: int) -> str:
        """Gives the characters from `start` up to `end`, at the cost of what is given."""
        if start >= end or not self._pieces:
            return ""
        first, start_idx = self._find(start)
        last, end_idx = self._find(end)
        if first == last:
            return self._pieces[first].text[start_idx:end_idx]
        between = [piece.text for piece in self._pieces[first + 1 : last]]
        return "".join([self._pieces[first].text[start_idx:], *between, self._pieces[last].text[:end_idx]])

    def offset(self, position: Position) -> int:
        """Finds the position's offset, clamped to its line and to the document; inside a character counts as before it."""
        return self._locate(position)[0]

    def position(self, offset: int) -> Position:
        """Names an offset in the client's units."""
        line = self.line(offset)
        return Position(line, self._units_before(offset) - self._units_before(self.line_start(line)))

    def line(self, offset: int) -> int:
        """Counts the line ends that stand whole before the offset."""
        piece_idx, idx = self._find(offset)
        if not self._pieces:
            return 0
        text = self._pieces[piece_idx].text
        inside_crlf = text[idx - 1 : idx + 1] == "\r\n" if idx else False
        return self._line_ends[piece_idx] + _count_line_ends(text[:idx]) - inside_crlf

    def line_start(self, line: int) -> int:
        """Finds the offset at which a line begins; the document's end where there is no such line."""
        if line <= 0:
            return 0
        if line >= self.n_lines:
            return self.n_chars
        piece_idx = bisect_right(self._line_ends, line - 1) - 1
        text, n = self._pieces[piece_idx].text, line - self._line_ends[piece_idx]
        line_end = _only_line_end(text)
        rest = text.split(line_end, n)[n] if line_end else _LINE_END.split(text, n)[n]
        return self._chars[piece_idx + 1] - len(rest)

    def line_end(self, line: int) -> int:
        """Finds the offset of the line end that closes a line, or the document's end on the last one."""
        end = self.line_start(line + 1)
        if line + 1 >= self.n_lines:
            return end
        return end - (2 if self.slice(end - 2, end) == "\r\n" else 1)

    def replace(self, start: Position, end: Position, new: str) -> Text:
        """Makes the text that an edit leaves; a reversed range is turned round.

        A position between the halves of a UTF-16 pair splits it, as in the client's own text, so that columns
        stay true; halves that meet are one character again.
        """
        start, end = min(start, end), max(start, end)
        start_offset, splits_start = self._locate(start)
        end_offset, splits_end = self._locate(end) if end != start else (start_offset, splits_start)
        if splits_start:
            new = _halves(self.slice(start_offset, start_offset + 1))[0] + new
        if splits_end:
            new += _halves(self.slice(end_offset, end_offset + 1))[1]
            end_offset += 1
        return self._splice(start_offset, end_offset, new)

    def _splice(self, start: int, end: int, new: str) -> Text:
        if not self._pieces:
            return Text.of(new, self.encoding)
        pieces = self._pieces
        first, start_idx = self._find(start)
        last, end_idx = self._find(end)
        text = pieces[first].text[:start_idx] + new + pieces[last].text[end_idx:]
        while first > 0 and (len(text) < _MIN_PIECE_CHARS or _belong_together(pieces[first - 1].text[-1], text[0])):
            first -= 1
            text = pieces[first].text + text
        while last + 1 < len(pieces) and (len(text) < _MIN_PIECE_CHARS or _belong_together(text[-1], pieces[last + 1].text[0])):
            last += 1
            text += pieces[last].text
        new_pieces = _split(text, self.encoding)
        return Text(
            self.encoding,
            pieces[:first] + new_pieces + pieces[last + 1 :],
            _summed_anew(self._chars, first, last, [len(piece.text) for piece in new_pieces]),
            _summed_anew(self._units, first, last, [piece.n_units for piece in new_pieces]),
            _summed_anew(self._line_ends, first, last, [piece.n_line_ends for piece in new_pieces]),
        )

    def _locate(self, position: Position) -> tuple[int, bool]:
        """Gives the clamped offset and whether the position splits the UTF-16 pair that stands there."""
        start, end = self.line_start(position.line), self.line_end(position.line)
        if position.line < 0 or position.character <= 0:
            return start, False
        n_units = self._units_before(start) + position.character
        if n_units >= self._units[-1]:
            return end, False
        piece_idx = bisect_right(self._units, n_units) - 1
        idx, splits = _index(self._pieces[piece_idx].text, n_units - self._units[piece_idx], self.encoding)
        offset = self._chars[piece_idx] + idx
        return (offset, splits) if offset < end else (end, False)

    def _find(self, offset: int) -> tuple[int, int]:
        """Gives the piece an offset falls in and the index into it; the end of the text is in the last piece."""
        piece_idx = max(0, min(bisect_right(self._chars, offset), len(self._pieces)) - 1)
        return piece_idx, offset - self._chars[piece_idx]

    def _units_before(self, offset: int) -> int:
        if not self._pieces:
            return 0
        piece_idx, idx = self._find(offset)
        return self._units[piece_idx] + _count_units(self._pieces[piece_idx].text[:idx], self.encoding)


def _split(text: str, encoding: Encoding) -> tuple[_Piece, ...]:
    if not text.isascii():
        text = _PAIR.sub(lambda pair: pair[0].encode("utf-16-le", "surrogatepass").decode("utf-16-le"), text)
    pieces, start = [], 0
    while start < len(text):
        end = start + _PIECE_CHARS
        if len(text) - end < _MIN_PIECE_CHARS:
            end = len(text)
        elif _belong_together(text[end - 1], text[end]):
            end += 1
        part = text[start:end]
        pieces.append(_Piece(part, _count_units(part, encoding), _count_line_ends(part)))
        start = end
    return tuple(pieces)


def _summed_anew(sums: tuple[int, ...], first: int, last: int, sizes: list[int]) -> tuple[int, ...]:
    """Gives the running sums once pieces of these sizes have taken the place of pieces `first` to `last`."""
    middle = list(accumulate(sizes, initial=sums[first]))
    more = middle[-1] - sums[last + 1]
    behind = sums[last + 2 :]
    return (*sums[:first], *middle, *([n + more for n in behind] if more else behind))


def _belong_together(left: str, right: str) -> bool:
    return (left == "\r" and right == "\n") or ("\ud800" <= left <= "\udbff" and "\udc00" <= right <= "\udfff")


def _only_line_end(text: str) -> str | None:
    """Gives the one character that ends every line of the text, if there is one: str.split is 30 times re.split."""
    n_cr = text.count("\r")
    if n_cr == 0 or n_cr == text.count("\r\n"):
        return "\n"
    return "\r" if "\n" not in text else None


def _count_line_ends(text: str) -> int:
    n = text.count("\n")
    return n + text.count("\r") - text.count("\r\n") if "\r" in text else n


def _count_units(text: str, encoding: Encoding) -> int:
    if encoding is Encoding.UTF_32 or text.isascii():
        return len(text)
    if encoding is Encoding.UTF_8:
        return len(text.encode("utf-8", "surrogatepass"))
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _index(text: str, n_units: int, encoding: Encoding) -> tuple[int, bool]:
    """Gives the index `n_units` into a piece, and whether that splits a UTF-16 pair."""
    if encoding is Encoding.UTF_32 or text.isascii():
        return n_units, False
    if encoding is Encoding.UTF_8:
        raw = text.encode("utf-8", "surrogatepass")
        while n_units < len(raw) and raw[n_units] & 0xC0 == 0x80:  # a byte inside a character
            n_units -= 1
        return len(raw[:n_units].decode("utf-8", "surrogatepass")), False
    raw = text.encode("utf-16-le", "surrogatepass")[: 2 * n_units]
    idx = len(raw.decode("utf-16-le", "surrogatepass"))
    splits = idx > 0 and "\ud800" <= raw[-2:].decode("utf-16-le", "surrogatepass") <= "\udbff" and ord(text[idx - 1]) > 0xFFFF
    return idx - splits, splits


def _halves(pair: str) -> tuple[str, str]:
    raw = pair.encode("utf-16-le")
    return raw[:2].decode("utf-16-le", "surrogatepass"), raw[2:].decode("utf-16-le", "surrogatepass")
