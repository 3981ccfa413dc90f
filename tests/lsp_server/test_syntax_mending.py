"""While one types, the grammar's tree is mended and not made anew: it must tell the same."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import lsp_server
from lsp_server import syntax
from lsp_server.syntax import n_errors

SOURCES = sorted(Path(lsp_server.__file__).parent.glob("*.py"))[:8]
TYPED = "    value = items[0].total(index, 'a😀')\n    if x:\n        return {"


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_a_tree_mended_key_by_key_has_the_errors_of_a_new_one(source) -> None:
    text = source.read_text("utf-8")[:6000]
    at = random.Random(source.name).randrange(len(text))
    typed = [text[:at] + TYPED[:n] + text[at:] for n in range(0, len(TYPED) + 1, 3)]
    typed += typed[::-2]
    mended = [n_errors(each, "python") for each in typed]
    anew = []
    for each in typed:
        syntax.n_errors.cache_clear()
        syntax._grammar.cache_clear()
        anew.append(n_errors(each, "python"))
    assert mended == anew
