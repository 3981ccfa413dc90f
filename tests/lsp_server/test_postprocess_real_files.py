"""Real files, cut at random: the model is taken to write what stood there, and more; what is shown must make the file again
or at least leave it no more broken. MIDFILL_SOURCES names other folders than the standard library's, MIDFILL_CUTS how often.
"""

from __future__ import annotations

import os
import random
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lsp_server.place import Place
from lsp_server.postprocess import postprocess
from lsp_server.syntax import n_errors
from lsp_server.trigger import Mode

SOURCES = os.environ.get("MIDFILL_SOURCES", sysconfig.get_path("stdlib")).split(os.pathsep)
N_CUTS = int(os.environ.get("MIDFILL_CUTS", "400"))
LANGUAGES = {
    **{".py": "python", ".js": "javascript", ".ts": "typescript", ".tsx": "typescriptreact", ".go": "go", ".rs": "rust"},
    **{".java": "java", ".c": "c", ".h": "cpp", ".cpp": "cpp", ".cc": "cpp", ".hpp": "cpp"},
}
MAX_CHARS = 40_000  # of a file, so that a run stays short


class Cut(NamedTuple):
    """A place in a file, what is written there, and the file."""

    language: str
    prefix: str
    suffix: str
    raw: str
    mode: Mode
    whole: str


def files() -> list[Path]:
    found = (path for folder in SOURCES for path in sorted(Path(folder).rglob("*")) if path.suffix in LANGUAGES)
    return [path for path in found if 500 < path.stat().st_size < MAX_CHARS]


def line_cut(lines: list[str], idx: int, rng: random.Random) -> tuple[str, str, str] | None:
    """Takes the end of a line away, or what stands before the closers that end it, or something in its middle."""
    line, over = lines[idx], "\n" + "\n".join(lines[idx + 1 : idx + 1 + rng.randrange(8)])
    first = len(line) - len(line.lstrip())
    start, stop = rng.randrange(first, len(line)), len(line)
    match rng.randrange(3):
        case 0:
            closers = re.search(r"[)\]}>\"'`;:,]+$", line)
            stop = rng.randrange(closers.start(), len(line)) if closers and closers.start() > start else stop
        case 1:
            borders = [match.start() for match in re.finditer(r"\b|\W", line) if match.start() > start]
            stop = rng.choice(borders) if borders else stop
    if line[start - 1 : start + 1] in ('""', "''"):
        return None  # half a mark of three quotes is another mark
    before, after = "\n".join([*lines[:idx], line[:start]]), "\n".join([line[stop:], *lines[idx + 1 :]])
    return before, after, line[start:] + over


def block_cut(lines: list[str], idx: int, rng: random.Random) -> tuple[str, str, str] | None:
    """Takes away the body of a block that begins on a line."""
    if not lines[idx].rstrip().endswith((":", "{")):
        return None
    depth = len(lines[idx]) - len(lines[idx].lstrip())
    end = idx + 1
    while end < min(len(lines), idx + 30) and (not lines[end].strip() or len(lines[end]) - len(lines[end].lstrip()) > depth):
        end += 1
    while not lines[end - 1].strip():
        end -= 1
    if end <= idx + 1 or end >= min(len(lines) - 1, idx + 30) or not lines[idx + 1].strip():
        return None
    raw = "\n".join(lines[idx + 1 : end + rng.randrange(10)])
    return "\n".join(lines[: idx + 1]), "\n" + "\n".join(lines[end:]), "\n" + raw


def cuts(rng: random.Random) -> Iterator[Cut]:
    paths = files()
    while True:
        path = rng.choice(paths)
        text = path.read_text("utf-8", "replace")
        lines = text.split("\n")
        idx = rng.randrange(len(lines))
        if "\r" in text or "\ufffd" in text or not lines[idx].strip():
            continue
        mode = rng.choice((Mode.LINE, Mode.LINE, Mode.BLOCK))
        if found := (block_cut if mode is Mode.BLOCK else line_cut)(lines, idx, rng):
            yield Cut(LANGUAGES[path.suffix], *found, mode, text)


def test_a_real_file_is_made_again_and_never_more_broken() -> None:
    rng = random.Random(7)
    n_same, broken = 0, []
    for _, cut in zip(range(N_CUTS), cuts(rng), strict=False):
        shown = postprocess(cut.raw, Place.at(cut.language, cut.prefix, cut.suffix), cut.mode)
        if shown is None:
            continue
        result = cut.prefix[: len(cut.prefix) - shown.replace_before] + shown.text + cut.suffix[shown.replace :]
        n_same += result == cut.whole
        if result != cut.whole and (n_errors(result, cut.language) or 0) > (
            n_errors(cut.prefix + cut.suffix, cut.language) or 0
        ):
            broken.append((cut.prefix[-80:], cut.raw[:80], shown))
    assert not broken
    assert n_same > 0.9 * N_CUTS
