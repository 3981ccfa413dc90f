"""Where a suggestion would stand: the text on both sides of the cursor, and what it says of lines and brackets."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lsp_server.lexing import ENDS_OF_COMMENT, OPENERS, Scan, is_prose, line_comment, scan

_CONTINUES_DEEPER = {"c", "cpp", "java"}  # by more than a block is
_TOP_LEVEL = re.compile(
    r"^(?:(?:async )?def |class |import |from \w[\w.]* import|@\w|func |fn |pub |function |export |const |package "
    r"|impl|struct |#include)",
    re.MULTILINE,
)
_BY_TABS = {"go", "makefile"}
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
    **{
        "sh": "shellscript",
        "bash": "shellscript",
        "zsh": "shellscript",
        "fish": "shellscript",
        "yml": "yaml",
        "text": "plaintext",
    },
}
_STATEMENT = re.compile(r"\n(?=[^\s)\]}])")
MAX_BEFORE, MAX_AFTER = 12_000, 6_000  # characters: what stands farther off decides nothing here


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
    lines_above: list[str]  # with something on them, above the cursor's
    lines_below: list[str]

    @staticmethod
    def at(language: str, prefix: str, suffix: str) -> Place:
        """Reads a place; line ends of any kind become LF, which is what a suggestion has."""
        language = _ALIASES.get(language.casefold(), language)
        prefix, suffix = (text.replace("\r\n", "\n").replace("\r", "\n") for text in (prefix, suffix))
        prefix, suffix = _from_code(prefix), _up_to_code(suffix)
        before = scan(prefix, language)
        is_cut = before.inside in ("'", '"') and before.inside not in suffix.partition("\n")[0]  # its end is yet to be written
        return Place(
            language=language,
            prefix=prefix,
            suffix=suffix,
            head=prefix.rpartition("\n")[2],
            rest=suffix.partition("\n")[0],
            inside=before.inside,
            inside_since=before.inside_since,
            brackets=_closed_by(_opened_in(prefix, before), suffix, scan(suffix, language, "" if is_cut else before.inside)),
            unit=_unit(prefix, suffix, falls_back=language not in _CONTINUES_DEEPER, by_tabs=language in _BY_TABS),
            lines_above=_solid(prefix.split("\n")[:-1]),
            lines_below=_solid(suffix.split("\n")[1:]),
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
    """Cuts a long prefix at a line that can only be code, for from inside a string or comment everything reads inside out."""
    if len(prefix) <= MAX_BEFORE:
        return prefix
    start = len(prefix) - MAX_BEFORE
    code = _TOP_LEVEL.search(prefix, start)
    return prefix[code.start() if code else start :]


def _up_to_code(suffix: str) -> str:
    """Cuts what follows where a statement has its end that is in none."""
    if len(suffix) <= MAX_AFTER:
        return suffix
    borders = [match.start() for match in _STATEMENT.finditer(suffix, 1, MAX_AFTER)]
    return suffix[: borders[-1] + 1 if borders else MAX_AFTER]


def _solid(lines: list[str]) -> list[str]:
    return [line for line in lines if line and not line.isspace()]


def _opened_in(prefix: str, before: Scan) -> list[Open]:
    opened: list[Open] = []
    for token in before.tokens:
        if token.text not in OPENERS:
            opened.append(Open(token.text, "", token.offset))
        elif opened and opened[-1].text == OPENERS[token.text]:
            opened.pop()
    return [Open(each.text, _indent_at(prefix, each.offset), each.offset) for each in opened]


def _indent_at(text: str, offset: int) -> str:
    return indent_of(text[text.rfind("\n", 0, offset) + 1 : offset + 1])


def _closed_by(opened: list[Open], suffix: str, after: Scan) -> tuple[Open, ...]:
    """Finds for each closer behind the cursor which open bracket it closes.

    Where fewer are closed than are open, the one without a closer is seen by indentation, else it is an inner one:
    the outer ones were there before.
    """
    closers: list[tuple[str, int]] = []
    depth: list[str] = []
    for token in after.tokens:
        if token.text in "([{":
            depth.append(token.text)
        elif token.text in OPENERS:
            if depth and depth[-1] == OPENERS[token.text]:
                depth.pop()
            elif not depth:
                closers.append((OPENERS[token.text], token.offset))
    closed = list(opened)
    if len(closers) >= len(opened):
        for each, closer in zip(range(len(opened) - 1, -1, -1), closers, strict=False):
            if opened[each].text == closer[0]:
                closed[each] = _with(opened[each], closer[1])
        return tuple(closed)
    free = list(range(len(opened)))
    for kind, offset in reversed(closers):
        alike = [each for each in free if opened[each].text == kind]
        line = suffix[suffix.rfind("\n", 0, offset) + 1 : offset + 1]
        starts_line = "\n" in suffix[:offset] and line.strip() == suffix[offset]
        aligned = [each for each in alike if starts_line and opened[each].indent == indent_of(line)]
        if chosen := aligned or alike:
            closed[chosen[0]] = _with(opened[chosen[0]], offset)
            free = [each for each in free if each > chosen[0]]
    return tuple(closed)


def _with(opened: Open, offset: int) -> Open:
    return Open(opened.text, opened.indent, opened.offset, offset)


def _unit(prefix: str, suffix: str, *, falls_back: bool, by_tabs: bool) -> str:
    """Finds one level of indentation: a tab, or the step that most lines take from the line above that opens a block.

    A continued line has a depth of its own, which counts only where no block tells.
    """
    in_blocks: Counter[int] = Counter()
    elsewhere: Counter[int] = Counter()
    n_tabs = 0
    halves = [prefix.split("\n"), suffix.split("\n")[1:]]
    is_bare = not any(line[0] in " \t" and not line.isspace() for half in halves for line in half if line)
    for half in halves:
        above, opens = None if half is halves[1] else 0, False  # what is missing at the cursor is no step
        for line in half:
            bare = line.lstrip()
            if not bare and not (is_bare and line):
                continue
            indent = line[: len(line) - len(bare)]
            if "\t" in indent:
                n_tabs += indent[0] == "\t"
            elif bare[:1] != "*":
                step = len(indent) - (len(indent) if above is None else above)
                if step > 1 and (bare or step in (2, 4, 8)):
                    (in_blocks if opens else elsewhere)[step] += 1
                above = len(indent)
            opens = bare.rstrip().endswith(("{", ":", "[", "=>"))
    steps = in_blocks or (elsewhere if falls_back else in_blocks)
    if n_tabs > (0 if by_tabs else in_blocks.total() + elsewhere.total()):
        return "\t"
    return " " * min(steps, key=lambda step: (-steps[step], step)) if steps else ""
