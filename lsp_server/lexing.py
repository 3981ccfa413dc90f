"""Just enough of each language's lexis to count brackets and to know strings and comments, in text that is half written.

A grammar reads a whole document and guesses where it is broken; this reads what stands before a cursor, goes on
into a completion and into what follows, and guesses nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache, lru_cache

OPENERS = {")": "(", "]": "[", "}": "{"}
ENDS_OF_COMMENT = {"/*": "*/", "<!--": "-->"}

_HASH = {"python", "ruby", "shellscript", "bash", "yaml", "toml", "r", "julia", "perl", "makefile", "dockerfile", "elixir"}
_DASHES = {"lua", "sql", "haskell", "elm", "ada", "vhdl"}
_PROSE = {"markdown", "plaintext", "text", "latex", "restructuredtext", "git-commit", ""}
_BACKTICKS = {"javascript", "typescript", "javascriptreact", "typescriptreact", "go", "vue", "svelte"}
_REGEXES = {"javascript", "typescript", "javascriptreact", "typescriptreact", "vue", "svelte", "ruby"}
_CHARACTERS = {"rust", "c", "cpp", "java", "go", "csharp", "kotlin", "swift", "scala", "zig", "haskell"}
_TRIPLES = {"python", "julia", "kotlin", "java", "scala", "swift", "toml", "elixir"}
_PREPROCESSED = {"c", "cpp"}
_INDENTED = {"python", "yaml", "fsharp", "haskell", "coffeescript", "nim", "elm", "sass", "pug", "makefile"}


@dataclass(frozen=True, slots=True)
class Token:
    """A bracket, or the end of a string or comment that was open before the text began."""

    text: str
    offset: int


@dataclass(frozen=True, slots=True)
class Scan:
    """What a text holds outside its strings and comments, and what it ends inside of: a quote, a comment's mark or nothing."""

    tokens: tuple[Token, ...]
    inside: str = ""
    inside_since: int = -1  # offset of the mark itself, -1 where it was open before
    strings: tuple[tuple[int, int], ...] = field(default=())  # and comments, that begin in the text


def is_indented(language: str) -> bool:
    """Tells whether indentation, and not brackets, ends a block."""
    return language in _INDENTED


def is_prose(language: str) -> bool:
    """Tells whether a language has neither strings nor comments."""
    return language in _PROSE


def line_comment(language: str) -> str:
    """Gives the mark that begins a comment to the line's end."""
    return "#" if language in _HASH else "--" if language in _DASHES else "//"


@lru_cache(maxsize=32)
def scan(text: str, language: str, inside: str = "") -> Scan:
    """Reads a text that begins inside of `inside`; a string that its line leaves open ends with the line.

    The trigger and the filters of one request ask for the same texts, the text after the cursor stays while one types, and
    so do the lines above: a line at whose start nothing is open is read alone.
    """
    line_start = text.rfind("\n") + 1
    above = _scan_lines(text[:line_start], language, inside)
    if above.inside:
        return _scan(text, language, inside, 0)
    line = _scan(text, language, "", line_start)
    return Scan(above.tokens + line.tokens, line.inside, line.inside_since, above.strings + line.strings)


@lru_cache(maxsize=8)
def _scan_lines(text: str, language: str, inside: str) -> Scan:
    return _scan(text, language, inside, 0)


def _scan(text: str, language: str, inside: str, start: int) -> Scan:
    tokens: list[Token] = []
    branches = _Branches(tokens)
    strings = []
    opened_at = -1
    if inside:
        end = _end_of(inside).search(text)
        if end is None:
            return Scan((), inside)
        if end.group() != "\n" and inside != line_comment(language):
            tokens.append(Token(end.group(), end.start()))
        start, inside = end.end(), ""
    for match in _pattern(language).finditer(text, start):
        piece = match.group()
        if match.lastgroup == "bracket":
            tokens.append(Token(piece, match.start()))
            continue
        if match.lastgroup == "condition":
            branches.take(piece.lstrip("# \t"))
            continue
        strings.append((match.start(), match.end()))
        if match.end() == len(text) and (mark := _left_open(piece, language)):
            inside, opened_at = mark, match.start()
    branches.drop_other()
    return Scan(tuple(tokens), inside, opened_at, tuple(strings))


class _Branches:
    """The branches of each `#if`, of which one counts: all may open what is closed once behind the `#endif`.

    It is the last; but where a text begins in one, as what follows the cursor may, it is that one.
    """

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._starts: list[tuple[int, bool]] = []  # how many tokens stood there, and whether what follows counts

    def take(self, condition: str) -> None:
        """Reads an `#if`, `#else` or `#endif`."""
        if condition.startswith("if"):
            self._starts.append((len(self._tokens), True))
        elif condition.startswith("endif"):
            self.drop_other()
            self._starts = self._starts[:-1]
        elif not self._starts:
            self._starts.append((len(self._tokens), False))
        elif self._starts[-1][1]:
            del self._tokens[self._starts[-1][0] :]

    def drop_other(self) -> None:
        """Drops what was read since a branch began that doesn't count."""
        if self._starts and not self._starts[-1][1]:
            del self._tokens[self._starts[-1][0] :]


def _left_open(piece: str, language: str) -> str:
    """Gives the mark of a string or comment that reaches the text's end without its own."""
    comment = line_comment(language)
    if piece.startswith(comment):
        return comment
    for mark in ("/*", "<!--", '"""', "'''"):
        if piece.startswith(mark):
            end = ENDS_OF_COMMENT.get(mark, mark)
            return mark if len(piece) < len(mark) + len(end) or not piece.endswith(end) else ""
    quote = piece[0]
    return quote if len(piece) == 1 or not re.search(r"(?<!\\)(?:\\\\)*" + quote + r"\Z", piece[1:]) else ""


@cache
def _end_of(inside: str) -> re.Pattern[str]:
    if inside in ENDS_OF_COMMENT:
        return re.compile(re.escape(ENDS_OF_COMMENT[inside]))
    if inside in ('"""', "'''", "`"):
        return re.compile(r"(?<!\\)" + inside)
    if inside in ('"', "'"):
        return re.compile(r"(?<!\\)" + inside + r"|\n")
    return re.compile(r"\n")


@cache
def _pattern(language: str) -> re.Pattern[str]:
    comment = line_comment(language)
    brackets = r"(?P<bracket>[()\[\]{}])"
    if language in _PROSE:
        return re.compile(brackets)
    pieces = [re.escape(comment) + r"[^\n]*"]
    if language in _PREPROCESSED:
        pieces.append(r"(?P<condition>(?m:^)[ \t]*#[ \t]*(?:if|el|endif)(?:\\\n|[^\n])*)")
    if comment == "//":
        pieces.append(r"/\*[\s\S]*?(?:\*/|\Z)")
    if language in ("html", "xml", "vue", "svelte"):
        pieces = [r"<!--[\s\S]*?(?:-->|\Z)"]
    if language in _TRIPLES:
        pieces += [r'"""(?:\\.|[^\\])*?(?:"""|\Z)', r"'''(?:\\.|[^\\])*?(?:'''|\Z)"]
    pieces.append(r'"(?:\\.|[^"\\\n])*(?:"|(?=\n)|\Z)')
    if language in ("json", "jsonc"):
        pass
    elif language in _CHARACTERS:  # a lone ' is a lifetime or a digit separator
        pieces.append(r"'(?:\\[^'\n]+|[^'\\\n])'")
    else:
        pieces.append(r"'(?:\\.|[^'\\\n])*(?:'|(?=\n)|\Z)")
    if language in _REGEXES:
        pieces.insert(0, r"(?<=[=(,:\[!&|?{};\n])[ \t]*/(?![/*])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n\[])+/[a-z]*")
    if language in _BACKTICKS:
        pieces.append(r"`(?:\\.|[^`\\])*(?:`|\Z)")
    return re.compile("|".join(pieces) + "|" + brackets, re.DOTALL)
