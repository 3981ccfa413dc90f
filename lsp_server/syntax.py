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


def n_errors(text: str, language: str) -> int | None:
    """Counts where a text is broken; None where nobody can tell."""
    tree = _parse(text, language)
    return None if tree is None else _count(tree.root_node)


def n_errors_after(text: str, language: str, *, start: int, old_end: int, written: str) -> int | None:
    """Counts where a text would be broken with one piece of it replaced, at the cost of the piece."""
    before = _parse(text, language)
    grammar = _grammar(language)
    if before is None or grammar is None:
        return None
    return _count(grammar.reparse(before, text, start, old_end, written).root_node)


@lru_cache(maxsize=8)
def _parse(text: str, language: str) -> Tree | None:
    """Parses; the trigger and the guard of one request ask for the same text."""
    grammar = _grammar(language)
    return None if grammar is None or len(_encoded(text)) > _MAX_BYTES else grammar.parse(text)


class _Grammar:
    """A language's parser, and what it read last: the text at the key before, whose tree costs less to mend than to make."""

    def __init__(self, parser: Parser) -> None:
        self._parser = parser
        self._last: tuple[str, Tree] | None = None

    def parse(self, text: str) -> Tree:
        tree = self._mended(text) or self._parser.parse(_encoded(text))
        self._last = text, tree
        return tree

    def reparse(self, tree: Tree, text: str, start: int, old_end: int, written: str) -> Tree:
        """Parses the text with a piece of it replaced, given its tree."""
        head, old_head, new_head = text[:start], text[:old_end], text[:start] + written
        edited = tree.copy()
        at, old_at, new_at = (len(_encoded(each)) for each in (head, old_head, new_head))
        edited.edit(at, old_at, new_at, _point(head), _point(old_head), _point(new_head))
        return self._parser.parse(_encoded(new_head + text[old_end:]), edited)

    def _mended(self, text: str) -> Tree | None:
        if self._last is None:
            return None
        last, tree = self._last
        n_head = _n_common(last, text)
        n_tail = min(_n_common(last[:n_head:-1], text[:n_head:-1]), min(len(last), len(text)) - n_head)
        if len(text) - n_head - n_tail > len(text) // 8:  # another place, another text
            return None
        return self.reparse(tree, last, n_head, len(last) - n_tail, text[n_head : len(text) - n_tail])


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
