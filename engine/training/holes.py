"""Holes in held-out code: where a person stops typing, and the rest of the line, or the block, that they went on to write."""

from __future__ import annotations

import gzip
import io
import json
import re
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

from engine.training.texts import Texts

_MIN_MIDDLE = 3  # characters besides blanks: a lone closer is no suggestion
_WINDOW_CHARS = 8000  # kept on either side: more than any prompt holds
_MAX_BLOCK_LINES = 8
_OPENS_BLOCK = re.compile(r"^([ ]*)(?:def|for|if|with|while|try|else|elif|except|async def)\b.*:\n([ ]+)(?=\S)", re.MULTILINE)
BLOCK = "block"  # the kind of a hole of whole lines


class Place(StrEnum):
    """Where in a line the hole begins."""

    STATEMENT = "statement"
    MEMBER = "member"  # behind a dot
    CALL = "call"  # inside the parentheses
    WORD = "word"  # in the middle of a name


@dataclass(frozen=True, slots=True)
class LineHole:
    """A hole from a place in a line to its end; the suffix begins with the newline."""

    prefix: str
    middle: str
    suffix: str
    kind: str


def held_out_holes(texts: Texts | Sequence[str], n_holes: int, seed: int) -> list[LineHole]:
    """Draws holes, as many of each place, from documents at random; the same for the same seed.

    Only code is cut, never a comment or a string that stands alone.
    """
    rng = np.random.default_rng(seed)
    by_place: dict[Place, list[LineHole]] = {place: [] for place in Place}
    n_each = -(-n_holes // len(Place))
    per_document = max(2 * n_each // len(texts), 1)
    while any(len(holes) < n_each for holes in by_place.values()):
        text = texts[int(rng.integers(len(texts)))]
        found = list(_places(text, rng))
        for place, holes in by_place.items():
            offsets = [offset for at, offset in found if at is place and _is_worth(text, offset)]
            n_drawn = min(per_document, len(offsets), n_each - len(holes))
            holes += (
                [_cut(text, int(offset), place) for offset in rng.choice(offsets, n_drawn, replace=False)] if n_drawn else []
            )
    return [hole for holes in by_place.values() for hole in holes]


def held_out_blocks(texts: Texts | Sequence[str], n_holes: int, seed: int) -> list[LineHole]:
    """Draws holes that are a short block's whole body, from documents at random; the same for the same seed."""
    rng = np.random.default_rng(seed)
    holes: list[LineHole] = []
    while len(holes) < n_holes:
        text = texts[int(rng.integers(len(texts)))]
        blocks = [(start, end) for start, end in _blocks(text) if text[start:end].count("\n") < _MAX_BLOCK_LINES]
        if blocks:
            start, end = blocks[int(rng.integers(len(blocks)))]
            before, behind = text[max(start - _WINDOW_CHARS, 0) : start], text[end : end + _WINDOW_CHARS]
            holes.append(LineHole(before, text[start:end], behind, BLOCK))
    return holes


def read_holes(path: Path) -> list[LineHole]:
    """Reads gzipped JSON lines of `prefix, middle, suffix, kind`."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [LineHole(**json.loads(line)) for line in lines]


def write_holes(holes: Iterable[LineHole], path: Path) -> None:
    """Writes what `read_holes` reads."""
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(hole)) + "\n" for hole in holes)


def copy_from_prefix(prefix: str) -> str:
    """What a mere copier answers: the rest of the line behind the longest earlier occurrence of the text before the cursor."""
    longest, found = 0, -1
    low, high = 1, len(prefix)
    while low <= high:  # a suffix that occurs earlier has only suffixes that do, too
        length = (low + high) // 2
        at = prefix.rfind(prefix[-length:], 0, len(prefix) - 1)
        if at >= 0:
            longest, found, low = length, at, length + 1
        else:
            high = length - 1
    return prefix[found + longest :].partition("\n")[0] if found >= 0 else ""


def _places(text: str, rng: np.random.Generator) -> Iterator[tuple[Place, int]]:
    starts = [0]
    for line in text.split("\n"):
        starts.append(starts[-1] + len(line) + 1)
    before, fresh = "", True
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            offset = starts[token.start[0] - 1] + token.start[1]
            if token.type == tokenize.NAME:
                if fresh:
                    yield Place.STATEMENT, offset
                elif before == ".":
                    yield Place.MEMBER, offset
                if len(token.string) >= 4:
                    yield Place.WORD, offset + int(rng.integers(2, len(token.string) - 1))
            if before == "(" and token.string != ")" and token.type != tokenize.NL:
                yield Place.CALL, offset
            if token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT):
                fresh = True
            elif token.type not in (tokenize.NL, tokenize.COMMENT):
                fresh, before = False, token.string
    except (tokenize.TokenError, IndentationError):
        return


def _blocks(text: str) -> Iterator[tuple[int, int]]:
    """Start, behind its indentation, and end of each body that is deeper than the line that opens it."""
    for match in _OPENS_BLOCK.finditer(text):
        outer, inner = match.groups()
        if len(inner) > len(outer):
            body = re.compile(rf"(?:[^\n]*)(?:\n(?:{inner}[^\n]*|[ ]*(?=\n)))*").match(text, match.end())
            assert body is not None
            yield match.end(), match.end() + len(body[0].rstrip())


def _is_worth(text: str, offset: int) -> bool:
    return len("".join(text[offset : _line_end(text, offset)].split())) >= _MIN_MIDDLE


def _cut(text: str, offset: int, place: Place) -> LineHole:
    end = _line_end(text, offset)
    return LineHole(text[max(offset - _WINDOW_CHARS, 0) : offset], text[offset:end], text[end : end + _WINDOW_CHARS], place)


def _line_end(text: str, offset: int) -> int:
    end = text.find("\n", offset)
    return end if end >= 0 else len(text)
