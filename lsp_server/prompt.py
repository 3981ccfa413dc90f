"""What the model reads: the text before the cursor and after it, cut to windows that stand still.

A key/value pair is good only at its own position, so a window that moved with the cursor would throw the whole
cache away at every key. The left edge of the prefix and the right edge of the suffix are therefore points of a
coarse grid, a quarter of the window wide, moved to a line start: a pure function of document and cursor, without
memory. The prefix's grid is counted from the document's start, the suffix's from its end, so that typing at the
cursor moves neither.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lsp_server.text import Text

# Editors type these by themselves; they are left out of the suffix and de-duplicated when a suggestion is served.
_CLOSERS = re.compile(r"(?:[\s)\]}>\"'`:;,]|/>|\*/)*")
_BRACKETS = {"(": ")", "[": "]", "{": "}"}
_MAX_CLOSERS_CHARS = 64  # also bounds the look into a giant line


@dataclass(frozen=True, slots=True)
class Prompt:
    """The text given to the engine, and the part of the cursor's line, all closers, that was kept from it."""

    prefix: str
    suffix: str
    closers: str = ""

    @property
    def ends_line(self) -> bool:
        """Tells whether nothing but closers stands between the cursor and the end of its line."""
        return self.suffix[:1] in ("", "\r", "\n")

    @property
    def is_between_brackets(self) -> bool:
        """Tells whether the cursor stands between a bracket and the one that closes it."""
        return _BRACKETS.get(self.prefix[-1:], "none") == self.closers.strip()[:1]

    def typed_since(self, earlier: Prompt) -> str | None:
        """Tells what was typed between an earlier prompt and this one; None where anything else changed."""
        if self.suffix != earlier.suffix or not self.prefix.startswith(earlier.prefix):
            return None
        return self.prefix[len(earlier.prefix) :]


def cut(text: Text, offset: int, max_chars: int) -> Prompt:
    """Cuts both windows at a cost that does not depend on the document's size.

    The prefix gets three quarters: names, types and indentation stand before the cursor, while the suffix mostly
    says where to stop, and stands first in SPM order, where each of its tokens delays a jump of the cursor.
    """
    n_prefix = max_chars * 3 // 4
    line_end = text.line_end(text.line(offset))
    rest = text.slice(offset, min(line_end, offset + _MAX_CLOSERS_CHARS + 1))
    closers = rest if is_closers(rest) and len(rest) <= _MAX_CLOSERS_CHARS else ""
    after = offset + len(closers)
    return Prompt(
        text.slice(_left_edge(text, offset, n_prefix), offset),
        text.slice(after, _right_edge(text, after, max_chars - n_prefix)),
        closers,
    )


def after_enter(prompt: Prompt, unit: str) -> Prompt | None:
    """Gives the prompt that Enter will make of this one between two brackets; None anywhere else.

    Editors indent the new line by one `unit` and put the closer on a line of its own, at the head of the suffix.
    """
    if not prompt.is_between_brackets:
        return None
    line = prompt.prefix[prompt.prefix.rfind("\n") + 1 :]
    margin = "\n" + line[: len(line) - len(line.lstrip(" \t"))]
    return Prompt(prompt.prefix + margin + unit, margin + prompt.closers.strip() + prompt.suffix)


def is_closers(text: str) -> bool:
    """Tells whether a piece of text is only what editors type by themselves."""
    return _CLOSERS.fullmatch(text) is not None


def _left_edge(text: Text, offset: int, window: int) -> int:
    if offset <= window:
        return 0
    step = max(1, window // 4)
    point = -(-(offset - window) // step) * step
    line_start = text.line_start(text.line(point - 1) + 1)
    return line_start if line_start <= point + step else point  # a giant line has no near start


def _right_edge(text: Text, offset: int, window: int) -> int:
    n_after = text.n_chars - offset
    if n_after <= window:
        return text.n_chars
    step = max(1, window // 4)
    point = text.n_chars - -(-(n_after - window) // step) * step
    line_start = text.line_start(text.line(point))
    return line_start if line_start >= point - step else point
