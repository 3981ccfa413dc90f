"""Where a suggestion would stand: the text on both sides of the cursor, and what it says of lines and brackets."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from lsp_server.lexing import ENDS_OF_COMMENT, OPENERS, Scan, Token, is_prose, line_comment, scan

_CONTINUES_DEEPER = {"c", "cpp", "java"}  # by more than a block is
_TOP_LEVEL = re.compile(
    r"^(?:(?:async )?def |class \w+[:({\s]|import |from \w[\w.]* import|@\w|func |fn |pub |function \w+\(|export |const "
    r"|package [\w.]+;?$|impl|struct |#include)",
    re.MULTILINE,
)
_OPENS_VALUE = re.compile(r"(?:[=(,{]|\breturn)\s*\{\s*$")  # of C++, whose depth is that of a continued line
BY_TABS = {"go", "makefile"}
# What some editors call a language otherwise than LSP does.
_ALIASES = {
    **{"py": "python", "python3": "python", "js": "javascript", "node": "javascript", "ts": "typescript", "golang": "go"},
    **{
        "jsx": "javascriptreact",
        "javascript.jsx": "javascriptreact",
        "tsx": "typescriptreact",
        "typescript.tsx": "typescriptreact",
    },
    **{"rs": "rust", "c++": "cpp", "cc": "cpp", "cuda": "cpp", "objective-c": "c", "objective-cpp": "cpp", "md": "markdown"},
    **dict.fromkeys(("sh", "bash", "zsh", "fish"), "shellscript"),
    **{"yml": "yaml", "text": "plaintext"},
}
_STATEMENT = re.compile(r"\n(?=[^\s)\]}])")
_MEMBER = re.compile(
    r"^[ \t]+(?:(?:async )?def \w+\(|class \w+[:({]|(?:public|private|protected) |(?:pub )?fn \w|func \w+\(|function \w+\()",
    re.MULTILINE,
)
MAX_BEFORE, MAX_AFTER = 12_000, 6_000  # characters: what stands farther off decides nothing here
STEP = 3_000  # between the places where what is read may begin: did that move at each key, all would be read anew, 8 ms


@dataclass(frozen=True, slots=True)
class Open:
    """A bracket open at the cursor; `closed_at` is the offset in the suffix of what closes it, None where nothing does."""

    text: str
    indent: str  # of its line
    offset: int  # in the prefix, or in what is written
    closed_at: int | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """A cursor in a document. `head` and `rest` are the two halves of its line."""

    language: str
    prefix: str
    suffix: str
    head: str
    rest: str
    inside: str  # the mark of the string or comment that the cursor is in
    inside_since: int  # offset of that mark in the prefix
    brackets: tuple[Open, ...]  # outermost first
    unit: str  # one level of indentation; empty where the document has none yet
    lines_above: tuple[str, ...]  # with something on them, above the cursor's
    lines_below: tuple[str, ...]

    @staticmethod
    def at(language: str, prefix: str, suffix: str) -> Place:
        """Reads a place; line ends of any kind become LF, which is what a suggestion has.

        While one types, only the cursor's line is read: what stands above and below stays, and was read at the key before.
        """
        language = _ALIASES.get(language.casefold(), language)
        prefix, suffix = (text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text for text in (prefix, suffix))
        n_before, n_after = len(prefix), len(suffix)
        prefix, suffix = _from_code(prefix), _up_to_code(suffix)
        line_start = prefix.rfind("\n") + 1
        above, head = prefix[:line_start], prefix[line_start:]
        rest, _, below = suffix.partition("\n")
        before = scan(prefix, language)
        is_cut = before.inside in ("'", '"') and before.inside not in rest  # its end is yet to be written
        return Place(
            language=language,
            prefix=prefix,
            suffix=suffix,
            head=head,
            rest=rest,
            inside=before.inside,
            inside_since=before.inside_since,
            brackets=_closed_by(
                _opened_in(prefix, above, before, language),
                suffix,
                _closers(suffix, language, "" if is_cut else before.inside),
                begins=len(prefix) == n_before,
                ends=len(suffix) == n_after,
            ),
            unit=_unit(above, head, below, language),
            lines_above=_solid(above),
            lines_below=_solid(below),
        )

    @property
    def is_blank(self) -> bool:
        """Tells whether nothing but indentation stands before the cursor on its line."""
        return not self.head.strip()

    @staticmethod
    def of(case: Mapping[str, Any]) -> Place:
        """Reads the place of a case in JSON.

        Raises: ValueError where it is none.
        """
        texts = [case.get(name) if isinstance(case, Mapping) else None for name in ("language", "prefix", "suffix")]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("a case must be an object with the texts `language`, `prefix` and `suffix`")
        return Place.at(*(str(text) for text in texts))

    def is_spaced(self, text: str) -> bool:
        """Tells whether a blank stands behind the innermost bracket once a text is inserted, as in `{ a }`."""
        return bool(self.brackets) and (self.prefix + text)[self.brackets[-1].offset + 1 :][:1] == " "

    @property
    def is_prose(self) -> bool:
        """Tells whether words are written here, not code: in a comment, or in a language of words."""
        return self.inside == line_comment(self.language) or self.inside in ENDS_OF_COMMENT or is_prose(self.language)


def indent_of(line: str) -> str:
    """Gives the white space that a line begins with."""
    return line[: len(line) - len(line.lstrip())]


def _from_code(prefix: str) -> str:
    """Cuts a long prefix at a line that can only be code, for from inside a string or comment everything reads inside out.

    Where there is none it is any line's start: a parser mends half a line at each key, in 1.5 ms.
    """
    if len(prefix) <= MAX_BEFORE:
        return prefix
    start = -(-(len(prefix) - MAX_BEFORE) // STEP) * STEP
    return prefix[_code_start(prefix[: prefix.rfind("\n") + 1], start) :]


@lru_cache(maxsize=8)
def _code_start(above: str, start: int) -> int:
    code = _TOP_LEVEL.search(above, start) or _MEMBER.search(above, start)
    return code.start() if code else above.find("\n", start, start + STEP) + 1 or start


@lru_cache(maxsize=16)
def _up_to_code(suffix: str) -> str:
    """Cuts what follows where a statement has its end that is in none, or at least a line."""
    if len(suffix) <= MAX_AFTER:
        return suffix
    borders = [match.start() for match in _STATEMENT.finditer(suffix, 1, MAX_AFTER)]
    return suffix[: (borders[-1] if borders else suffix.rfind("\n", 0, MAX_AFTER)) + 1 or MAX_AFTER]


@lru_cache(maxsize=16)
def _solid(text: str) -> tuple[str, ...]:
    return tuple(line for line in text.split("\n") if line and not line.isspace())


def _opened_in(prefix: str, above: str, before: Scan, language: str) -> list[Open]:
    opened, n_read = _opened_above(above, language)
    still_open = _left_open(opened, before.tokens[n_read:])
    return [Open(each.text, _indent_at(prefix, each.offset), each.offset) for each in still_open]


@lru_cache(maxsize=8)
def _opened_above(above: str, language: str) -> tuple[tuple[Token, ...], int]:
    """Gives what is open at a line's start, and how many tokens told so; none where a string or comment goes on there."""
    read = scan(above, language)
    return ((), 0) if read.inside else (_left_open((), read.tokens), len(read.tokens))


def _left_open(opened: tuple[Token, ...], tokens: tuple[Token, ...]) -> tuple[Token, ...]:
    """Goes on from what is open already."""
    left = list(opened)
    for token in tokens:
        if token.text not in OPENERS:
            left.append(token)
        elif left and left[-1].text == OPENERS[token.text]:
            left.pop()
    return tuple(left)


def _indent_at(text: str, offset: int) -> str:
    return indent_of(text[text.rfind("\n", 0, offset) + 1 : offset + 1])


@lru_cache(maxsize=16)
def _closers(suffix: str, language: str, inside: str) -> tuple[tuple[str, int], ...]:
    """Finds what closes brackets opened before the suffix: the opener's kind, and the closer's offset."""
    closers: list[tuple[str, int]] = []
    depth: list[str] = []
    for token in scan(suffix, language, inside).tokens:
        if token.text in "([{":
            depth.append(token.text)
        elif token.text in OPENERS:
            if depth and depth[-1] == OPENERS[token.text]:
                depth.pop()
            elif not depth:
                closers.append((OPENERS[token.text], token.offset))
    return tuple(closers)


def _closed_by(
    opened: list[Open], suffix: str, closers: tuple[tuple[str, int], ...], *, begins: bool, ends: bool
) -> tuple[Open, ...]:
    """Finds for each closer behind the cursor which open bracket it closes.

    The one without a closer is seen by indentation. Where that doesn't tell and fewer are closed than are open, it is an
    inner one: the outer ones were there before. But where the document doesn't end in what is read, the outer ones are
    closed farther off; and where it doesn't begin there, what is less deep than all that is open closes something above.
    """
    closed = list(opened)
    from_inside = not ends or len(closers) >= len(opened)
    free = list(range(len(opened)))
    for kind, offset in closers if from_inside else reversed(closers):
        alike = [each for each in free if opened[each].text == kind]
        line = suffix[suffix.rfind("\n", 0, offset) + 1 : offset + 1]
        starts_line = "\n" in suffix[:offset] and line.strip() == suffix[offset]
        aligned = [each for each in alike if starts_line and opened[each].indent == indent_of(line)]
        if not (aligned or begins or not starts_line) and all(
            len(opened[each].indent) > len(indent_of(line)) for each in alike
        ):
            continue
        if chosen := aligned or alike:
            one = chosen[-1 if from_inside else 0]
            closed[one] = _with(opened[one], offset)
            free = [each for each in free if (each < one if from_inside else each > one)]
    return tuple(closed)


def _with(opened: Open, offset: int) -> Open:
    return Open(opened.text, opened.indent, opened.offset, offset)


def _unit(above: str, head: str, below: str, language: str) -> str:
    """Finds one level of indentation: a tab, or the step that most lines take from the line above that opens a block.

    A continued line has a depth of its own, which counts only where no block tells.
    """
    is_bare = not (_is_indented(above) or _is_indented(head) or _is_indented(below))
    before = _steps(above, 0, opens=False, is_bare=is_bare)
    here = _steps(head, before.last, opens=before.opens, is_bare=is_bare)
    behind = _steps(below, None, opens=False, is_bare=is_bare)  # what is missing at the cursor is no step
    parts = (before, here, behind)
    in_blocks, elsewhere = Counter[int](), Counter[int]()
    for part in parts:
        in_blocks.update(part.in_blocks)
        elsewhere.update(part.elsewhere)
    n_tabs = sum(part.n_tabs for part in parts)
    steps = in_blocks or (Counter[int]() if language in _CONTINUES_DEEPER else elsewhere)
    if n_tabs > (0 if language in BY_TABS else in_blocks.total() + elsewhere.total()):
        return "\t"
    return " " * min(steps, key=lambda step: (-steps[step], step)) if steps else ""


@dataclass(frozen=True, slots=True)
class _Steps:
    """By how much lines are deeper than the one above them, and how they go on."""

    in_blocks: Counter[int]
    elsewhere: Counter[int]
    n_tabs: int
    last: int | None  # indentation of the last line that tells
    opens: bool


@lru_cache(maxsize=32)
def _steps(text: str, last: int | None, *, opens: bool, is_bare: bool) -> _Steps:
    """Counts the steps in a text that follows a line of a known depth, which may open a block; blank lines tell at need."""
    in_blocks, elsewhere, n_tabs = Counter[int](), Counter[int](), 0
    for line in text.split("\n"):
        bare = line.lstrip()
        if not bare and not (is_bare and line):
            continue
        indent = line[: len(line) - len(bare)]
        if "\t" in indent:
            n_tabs += indent[0] == "\t"
        elif bare[:1] != "*":
            step = len(indent) - (len(indent) if last is None else last)
            if step > 1 and (bare or step in (2, 4, 8)):
                (in_blocks if opens else elsewhere)[step] += 1
            last = len(indent)
        opens = bare.rstrip().endswith(("{", ":", "[", "=>")) and not _OPENS_VALUE.search(bare)
    return _Steps(in_blocks, elsewhere, n_tabs, last, opens)


@lru_cache(maxsize=16)
def _is_indented(text: str) -> bool:
    """Tells whether any line is that has something on it."""
    return any(line[0] in " \t" and not line.isspace() for line in text.split("\n") if line)
