"""`midfill why FILE`: whether a file may be read, what is suggested at a place in it, and why not. Needs no engine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from lsp_server.documents import Document, Query
from lsp_server.judgement import mode_at, place_at, why_off, why_silent
from lsp_server.privacy import may_be_context, refusal
from lsp_server.settings import Settings
from lsp_server.text import Encoding, Position, Text
from lsp_server.trigger import Mode

_LANGUAGES = {
    **{".py": "python", ".pyi": "python", ".js": "javascript", ".mjs": "javascript", ".cjs": "javascript"},
    **{".jsx": "javascriptreact", ".ts": "typescript", ".mts": "typescript", ".tsx": "typescriptreact", ".go": "go"},
    **{".rs": "rust", ".java": "java", ".c": "c", ".h": "c", ".cpp": "cpp", ".cc": "cpp", ".hpp": "cpp", ".md": "markdown"},
    **{".html": "html", ".css": "css", ".json": "json", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml", ".sh": "shellscript"},
}


def why(place: str, settings: Settings) -> Iterator[str]:
    """Explains FILE, or FILE:LINE:COLUMN counted from 1, line by line."""
    name, line, column = _parse(place)
    path = Path(name).absolute()
    uri = path.as_uri()
    language = _LANGUAGES.get(path.suffix, "plaintext")
    rule = refusal(uri, settings.private_globs)
    if rule:
        yield f"{path}: never read, and nothing is suggested in it: {rule}"
        return
    text = path.read_text("utf-8", "replace") if line and path.is_file() else ""
    document = Document(uri=uri, language=language, version=0, text=Text.of(text, Encoding.UTF_32))
    off = why_off(document, settings)
    yield f"{path}: {off.about if off else 'suggestions are on'} (taken for {language})"
    if not may_be_context(uri, settings.private_globs):
        yield "ignored by git: completed, but no part of what is asked in other files"
    if line and not off:
        query = Query(document, document.text.offset(Position(line - 1, column - 1)))
        silent, mode = why_silent(place_at(query), query, settings), mode_at(place_at(query), query, settings)
        yield f"at {line}:{column}: " + (
            silent.about if silent else f"a {'block' if mode is Mode.BLOCK else 'line'} is asked for"
        )


def _parse(place: str) -> tuple[str, int, int]:
    found = re.fullmatch(r"(.+?):(\d+)(?::(\d+))?", place)
    return (found[1], int(found[2]), int(found[3] or 1)) if found and not Path(place).exists() else (place, 0, 0)
