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
    parser = _parser(language)
    if before is None or parser is None:
        return None
    after = text[:start] + written + text[old_end:]
    at, end, new_end = (len(_encoded(each)) for each in (text[:start], text[:old_end], text[:start] + written))
    tree = before.copy()
    tree.edit(at, end, new_end, _point(text[:start]), _point(text[:old_end]), _point(text[:start] + written))
    return _count(parser.parse(_encoded(after), tree).root_node)


@lru_cache(maxsize=8)
def _parse(text: str, language: str) -> Tree | None:
    """Parses; the trigger and the guard of one request ask for the same text."""
    parser = _parser(language)
    encoded = _encoded(text)
    return None if parser is None or len(encoded) > _MAX_BYTES else parser.parse(encoded)


@lru_cache(maxsize=len(_GRAMMARS))
def _parser(language: str) -> Parser | None:
    if language not in _GRAMMARS:
        return None
    from tree_sitter import Language, Parser

    module, entry = _GRAMMARS[language]
    return Parser(Language(getattr(import_module(module), entry)()))


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
