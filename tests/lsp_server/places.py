"""Cases name a place in a text with ┃; this reads them, and counts positions the slow and obvious way."""

from __future__ import annotations

import re

from lsp_server.prompt import Prompt, cut
from lsp_server.text import Text

CURSOR = "┃"


def split(marked: str) -> tuple[str, str]:
    """Gives the text on both sides of the cursor."""
    before, mark, after = marked.partition(CURSOR)
    assert mark, f"a case needs a {CURSOR}: {marked!r}"
    return before, after


def prompt_at(marked: str, max_chars: int = 4096) -> Prompt:
    """Cuts the prompt at the cursor."""
    before, after = split(marked)
    return cut(Text.of(before + after), len(before), max_chars)


def n_units(text: str, encoding: str) -> int:
    """Counts the client's units that a text takes."""
    bytes_each = {"utf-8": 1, "utf-16": 2, "utf-32": 4}[encoding]
    codec = "utf-8" if encoding == "utf-8" else f"{encoding}-le"
    return len(text.encode(codec, "surrogatepass")) // bytes_each


def cursor_after(before: str, encoding: str = "utf-16") -> dict[str, int]:
    """Gives LSP's position at the end of a text."""
    *above, line = re.split(r"\r\n|\r|\n", before)
    return {"line": len(above), "character": n_units(line, encoding)}
