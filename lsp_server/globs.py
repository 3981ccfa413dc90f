"""Patterns as in .gitignore, and the files in which users write them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath


@dataclass(frozen=True, slots=True)
class Patterns:
    """What one file lists, for the paths under its folder; case counts for nothing."""

    source: str  # for a person
    folder: str
    lines: tuple[str, ...]


def why_ignored(path: str, lists: Iterable[Patterns]) -> str | None:
    """Tells which pattern ignores an absolute path: the last that matches it, or matches a folder above it.

    As in git, what is in an ignored folder can't be taken out again.
    """
    lists = list(lists)
    for head in (*reversed(PurePosixPath(path).parents), PurePosixPath(path)):
        found: str | None = None
        for each in lists:
            if head.is_relative_to(each.folder) and str(head) != each.folder:
                below = head.relative_to(each.folder).as_posix().casefold()
                for line in each.lines:
                    if _regex(line.removeprefix("!")).fullmatch(below):
                        found = None if line.startswith("!") else f"{line} in {each.source}"
        if found:
            return found
    return None


def match_in(globs: Iterable[str], path: str) -> str | None:
    """Gives the first glob that matches a path, or a folder above it, wherever that lies."""
    heads = [str(each).casefold() for each in (PurePosixPath(path), *PurePosixPath(path).parents)]
    for glob in globs:
        expanded = glob if glob.startswith(("/", "**/")) else "**/" + glob
        if any(_regex(expanded).fullmatch(head.lstrip("/")) for head in heads):
            return glob
    return None


def lists_above(path: str, name: str, *, root: Path | None = None) -> Iterator[Patterns]:
    """Reads the files of a name in the folders above a path, from the root down; one that can't be read ignores everything."""
    if not path.startswith("/") and not Path(path).is_absolute():
        return
    for folder in reversed(Path(path).parents):
        if root is None or folder.is_relative_to(root):
            yield from read_list(folder / name, folder)


def read_list(file: Path, folder: Path) -> Iterator[Patterns]:
    """Reads one file; nothing where there is none."""
    try:
        text = file.read_text(encoding="utf-8-sig", errors="replace")
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return
    except OSError:
        text = "*"
    lines = (re.sub(r"(?<!\\)\s+$", "", line) for line in text.splitlines())
    patterns = tuple(line for line in lines if line and not line.startswith("#"))
    yield Patterns(str(file), folder.as_posix(), patterns)


@lru_cache(maxsize=1024)
def _regex(pattern: str) -> re.Pattern[str]:
    """Translates one pattern; one that means nothing matches nothing."""
    pattern = pattern.casefold().rstrip("/")
    is_anchored = "/" in pattern
    pattern = pattern.lstrip("/")
    pieces = [] if is_anchored else ["(?:.*/)?"]
    for piece in re.findall(r"\*\*/|/\*\*$|\*+|\?|\\.|\[[!^]?\]?[^\]]*\]|.", pattern):
        if piece == "**/":
            pieces.append("(?:.*/)?")
        elif piece == "/**":
            pieces.append("/.*")
        elif piece.startswith("*"):
            pieces.append("[^/]*")
        elif piece == "?":
            pieces.append("[^/]")
        elif len(piece) > 2 and piece[0] == "[":
            pieces.append("[" + re.sub(r"^[!^]", "^", piece[1:-1]).replace("\\", r"\\").replace("[", r"\[") + "]")
        else:
            pieces.append(re.escape(piece[-1]))
    try:
        return re.compile("".join(pieces), re.DOTALL)
    except re.error:
        return re.compile(r"(?!)")
