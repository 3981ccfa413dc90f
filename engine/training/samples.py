"""Training samples: a hole in a document, windows around it, and the ids in the order in which they are served.

A share of what BigCode did (two cuts at uniform random characters), and more of what the product asks for: from a place in
a line to that line's end or a few lines on, the suffix beginning with the newline. In PSM the parts are tokenised separately;
in SPM the word at the cursor is written again, as it is served (`engine.healing`), so that no word is ever cut in two.
Source: Bavarian et al. 2022, arXiv:2207.14255.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from engine.api import Order
from engine.encoding import encode_all
from engine.fim import Ids, build_prompt
from engine.healing import take_back
from engine.tokenizer import Tokenizer

_CHARS_PER_TOKEN = 3.3  # below the corpus's mean, so that a window rarely has more tokens than planned
_MAX_BLOCK_LINES = 8
_BOUNDARY = re.compile(r"(?<=[.(\[,= ])(?=\S)")


class Kind(StrEnum):
    """What a sample's middle is."""

    LINE = "line"  # from a place in a line to the line's end
    SPAN = "span"  # within one line
    BLOCK = "block"  # from a place in a line to the end of a later line
    RANDOM = "random"  # two uniform cuts in the window, BigCode's own
    TEXT = "text"  # no hole: left to right


@dataclass(frozen=True, slots=True)
class Mix:
    """How often a sample is of each kind, and how often a hole is written in SPM; the rest of the holes is PSM."""

    line: float = 0.4
    span: float = 0.1
    block: float = 0.15
    random: float = 0.25
    text: float = 0.1
    spm: float = 0.6
    long: float = 0.35  # samples of at least half the model's positions

    def draw_kind(self, rng: np.random.Generator) -> Kind:
        """One kind, by its share."""
        shares = np.array([self.line, self.span, self.block, self.random, self.text])
        return tuple(Kind)[int(rng.choice(len(shares), p=shares / shares.sum()))]

    def draw_order(self, rng: np.random.Generator) -> Order:
        """One of the two orders."""
        return Order.SPM if rng.random() < self.spm else Order.PSM

    def draw_n_tokens(self, n_positions: int, rng: np.random.Generator) -> int:
        """A size to aim at: long ones for induction, short ones because they hold more holes for the same work."""
        if rng.random() < self.long:
            return int(rng.integers(n_positions // 2, n_positions))
        return int(np.exp(rng.uniform(np.log(n_positions / 16), np.log(n_positions / 2))))


@dataclass(frozen=True, slots=True)
class Hole:
    """A document's text around a cursor, and what was cut out there."""

    prefix: str
    middle: str
    suffix: str


def draw_hole(text: str, offset: int, kind: Kind, n_tokens: int, rng: np.random.Generator) -> Hole:
    """Cuts a middle at or near an offset, and windows that hold about `n_tokens` with it.

    The prefix begins and the suffix ends at a line's edge, like served windows.
    """
    n_chars = max(int(n_tokens * _CHARS_PER_TOKEN), 16)
    start, end = _cut(text, offset, kind, n_chars, rng)
    n_chars = max(n_chars - (end - start), 0)
    n_prefix = int(n_chars * rng.uniform(0.4, 1.0))
    first, last = start - n_prefix, end + n_chars - n_prefix
    if first > 0:
        first = min(text.find("\n", first - 1) + 1 or start, start)
    if last < len(text):
        last = max(text.rfind("\n", end, last), end)
    return Hole(text[max(first, 0) : start], text[start:end], text[end:last])


@dataclass(frozen=True, slots=True)
class Sample:
    """What is packed: ids, of which those from `n_prompt` on are what a prompt asks for; none are in plain text."""

    ids: list[int]
    n_prompt: int


def fim_sample(hole: Hole, order: Order, tokenizer: Tokenizer) -> Sample:
    """The prompt as it is served, the middle and the end of text."""
    prefix = encode_all(hole.prefix, tokenizer)
    before, healed = take_back(prefix, tokenizer) if order is Order.SPM else (prefix.ids, ())
    prompt = build_prompt(before, tokenizer.encode(hole.suffix), order, tokenizer.special).ids
    return Sample([*prompt, *middle_ids(hole.middle, healed, tokenizer)], len(prompt))


def middle_ids(middle: str, healed: Ids, tokenizer: Tokenizer) -> list[int]:
    """What follows a prompt: the word that was taken back, written again, the middle and the end of text."""
    return [*tokenizer.encode(tokenizer.decode(list(healed)) + middle), tokenizer.special.end_of_text]


def text_sample(text: str, offset: int, n_tokens: int, tokenizer: Tokenizer) -> Sample:
    """Left to right, at most `n_tokens` from the line at an offset on; the document's end is marked."""
    start = text.rfind("\n", 0, offset) + 1
    # A token has at most a few dozen characters; 8 per token are enough for all but pathological text.
    ids = tokenizer.encode(text[start : start + 8 * n_tokens])
    ids = [*ids, tokenizer.special.end_of_text][:n_tokens]
    return Sample(ids, len(ids))


def _cut(text: str, offset: int, kind: Kind, n_chars: int, rng: np.random.Generator) -> tuple[int, int]:
    if kind is Kind.RANDOM:
        first = max(offset - int(n_chars * rng.random()), 0)
        start, end = sorted(rng.integers(first, min(first + n_chars, len(text)) + 1, size=2).tolist())
        return start, end
    line_start, line_end = line_around(text, offset)
    start = place_in_line(text, line_start, line_end, rng)
    if kind is Kind.SPAN:
        return start, int(rng.integers(start, line_end + 1))
    if kind is Kind.BLOCK:
        for _ in range(int(rng.integers(1, _MAX_BLOCK_LINES + 1))):
            line_end = text.find("\n", line_end + 1) if line_end < len(text) else -1
            if line_end < 0:
                return start, len(text)
    return start, line_end


def line_around(text: str, offset: int) -> tuple[int, int]:
    """Start and end, newline excluded, of the line at the offset, or of the next one that is not blank."""
    start, end = _line(text, offset)
    while not text[start:end].strip() and end < len(text):
        start, end = _line(text, end + 1)
    return start, end


def place_in_line(text: str, start: int, end: int, rng: np.random.Generator) -> int:
    """Where a person may stop typing, or a middle that they write begin: where the line does, or the statement, or a word, or
    anywhere behind the indentation.
    """
    indented = start + len(text[start:end]) - len(text[start:end].lstrip())
    draw = rng.random()
    if draw < 0.25:
        return start if draw < 0.1 else indented
    if draw < 0.55:
        places = [indented + match.start() for match in _BOUNDARY.finditer(text[indented:end])]
        if places:
            return places[int(rng.integers(len(places)))]
    return int(rng.integers(indented, end)) if indented < end else end


def _line(text: str, offset: int) -> tuple[int, int]:
    start = text.rfind("\n", 0, offset) + 1
    end = text.find("\n", offset)
    return start, end if end >= 0 else len(text)
