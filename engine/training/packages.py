"""Reads Python packages where they lie: wheels, sdists and folders, as metadata and source texts.

Nothing is unpacked or executed. Source: PEP 427 (wheel), PEP 625 (sdist), core metadata 2.4.
"""

from __future__ import annotations

import re
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

from packaging.version import InvalidVersion, Version

_MAX_FILE_BYTES = 300_000  # longer than that is data with an extension


@dataclass(frozen=True, slots=True)
class Archive:
    """One wheel, sdist or folder, and the package that its name says it holds."""

    path: Path
    name: str
    version: str


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of source text, by its path inside the package."""

    path: str
    text: str


def find_archives(sources: Iterable[Path]) -> list[Archive]:
    """Lists the newest archive of every package among files and folders, by name; wheels win over sdists.

    A folder without archives is itself taken for a package's source tree.
    """
    newest: dict[str, tuple[Version, bool, Archive]] = {}
    for path in _expand(sources):
        archive = _named(path)
        rank = (_version(archive.version), path.suffix == ".whl", archive)
        if archive.name not in newest or rank[:2] > newest[archive.name][:2]:
            newest[archive.name] = rank
    return [newest[name][2] for name in sorted(newest)]


def read_metadata(archive: Archive) -> Message:
    """Reads the core metadata; an empty message where there is none."""
    wanted = re.compile(r"^[^/]+\.dist-info/METADATA$|^[^/]+/PKG-INFO$|^PKG-INFO$|^METADATA$")
    for name, data in _members(archive.path, lambda name: wanted.match(name) is not None):
        if name:
            return HeaderParser().parsestr(data.decode("utf-8", "replace"))
    return Message()


def read_sources(archive: Archive, suffix: str) -> Iterator[SourceFile]:
    """Reads every UTF-8 file with this suffix up to a size, line ends as LF; others are passed over."""
    for name, data in _members(archive.path, lambda name: name.endswith(suffix)):
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            continue
        yield SourceFile(name, text.replace("\r\n", "\n").replace("\r", "\n"))


def _expand(sources: Iterable[Path]) -> Iterator[Path]:
    for source in sources:
        if not source.is_dir():
            yield source
            continue
        archives = sorted(path for path in source.rglob("*") if path.name.endswith((".whl", ".tar.gz")))
        yield from archives or [source]


def _named(path: Path) -> Archive:
    stem = path.name.removesuffix(".whl").removesuffix(".tar.gz")
    name, _, rest = stem.partition("-") if path.suffix == ".whl" else stem.rpartition("-")
    version = rest.partition("-")[0]
    return Archive(path, re.sub(r"[-_.]+", "-", name or stem).lower(), version)


def _version(text: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion:
        return Version("0")


def _members(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            name = file.relative_to(path).as_posix()
            if file.is_file() and wanted(name) and file.stat().st_size <= _MAX_FILE_BYTES:
                yield name, file.read_bytes()
    elif path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            for info in wheel.infolist():
                if wanted(info.filename) and info.file_size <= _MAX_FILE_BYTES:
                    yield info.filename, wheel.read(info)
    else:
        with tarfile.open(path) as sdist:
            for member in sdist:
                if member.isfile() and wanted(member.name) and member.size <= _MAX_FILE_BYTES:
                    data = sdist.extractfile(member)
                    assert data is not None
                    yield member.name, data.read()
