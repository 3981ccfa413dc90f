"""Grammars: where a text is broken. For a language without one here nobody can tell.

A grammar is imported when its language is first met, for a server must start fast and serves one or two.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Node, Parser, Tree

_GRAMMARS = {
    "python": ("tree_sitter_python", "language"),
    "javascript": ("tree_sitter_javascript", "language"),
    "javascriptreact": ("tree_sitter_javascript", "language"),
    "typescript": ("tree_sitter_typescript", "language_typescript"),
    "typescriptreact": ("tree_sitter_typescript", "language_tsx"),
    "go": ("tree_sitter_go", "language"),
    "rust": ("tree_sitter_rust", "language"),
    "java": ("tree_sitter_java", "language"),
    "c": ("tree_sitter_c", "language"),
    "cpp": ("tree_sitter_cpp", "language"),
}
_MAX_BYTES = 60_000  # beyond, a parse would be felt


def has_grammar(language: str) -> bool:
    """Tells whether it can be told where a text in this language is broken."""
    return language in _GRAMMARS


@lru_cache(maxsize=32)
def n_errors(text: str, language: str) -> int | None:
    """Counts where a text is broken; None where nobody can tell."""
    grammar = _grammar(language)
    if grammar is None or len(_encoded(text)) > _MAX_BYTES:
        return None
    return _count(grammar.parse(text).root_node)


class _Grammar:
    """A language's parser, and what it read last: a text much like the next, whose tree costs less to mend than to make."""

    def __init__(self, parser: Parser) -> None:
        self._parser = parser
        self._last: tuple[str, Tree] | None = None

    def parse(self, text: str) -> Tree:
        tree = self._mended(text) or self._parser.parse(_encoded(text))
        self._last = text, tree
        return tree

    def _mended(self, text: str) -> Tree | None:
        if self._last is None:
            return None
        last, tree = self._last
        start = _n_common(last, text)
        n_tail = min(_n_common(last[:start:-1], text[:start:-1]), min(len(last), len(text)) - start)
        end = len(text) - n_tail
        if end - start > len(text) // 8:  # another place, another text
            return None
        head, old_head, new_head = text[:start], last[: len(last) - n_tail], text[:end]
        edited = tree.copy()
        at, old_at, new_at = (len(_encoded(each)) for each in (head, old_head, new_head))
        edited.edit(at, old_at, new_at, _point(head), _point(old_head), _point(new_head))
        return self._parser.parse(_encoded(text), edited)


def _n_common(first: str, second: str) -> int:
    """Counts the characters that two texts begin with alike."""
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if first[:middle] == second[:middle] else (low, middle - 1)
    return low


@lru_cache(maxsize=len(_GRAMMARS))
def _grammar(language: str) -> _Grammar | None:
    if language not in _GRAMMARS:
        return None
    from tree_sitter import Language, Parser

    module, entry = _GRAMMARS[language]
    return _Grammar(Parser(Language(getattr(import_module(module), entry)())))


def _count(root: Node) -> int:
    n, nodes = 0, [root]
    while nodes:
        node = nodes.pop()
        n += node.is_error or node.is_missing
        if node.has_error:
            nodes += node.children
    return n


def _point(text: str) -> tuple[int, int]:
    line_start = text.rfind("\n") + 1
    return text.count("\n"), len(_encoded(text[line_start:]))


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "replace")  # a lone surrogate is legal in a document
