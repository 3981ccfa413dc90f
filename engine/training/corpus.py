"""The corpus: from archives of packages to two texts on disk, `train` and `dev`, and a manifest that says whose they are.

Held-out packages make up `dev` whole; a training file that shares text with them is dropped, wherever it lies.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import multiprocessing
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from engine.training.duplicates import Seen, sketch
from engine.training.filters import Benchmark, benchmark, mask, reason_to_drop
from engine.training.licences import package_verdict
from engine.training.packages import Archive, find_archives, read_metadata, read_sources

HELD_OUT = ("flask", "httpx", "rich", "attrs", "boltons", "tenacity", "sqlparse", "itsdangerous", "tomlkit", "cachetools")
FITTED_ON = ("flask", "attrs", "sqlparse", "tomlkit", "cachetools")  # of these; the others are only ever judged on

_MAX_SEEN = 0.5  # of a file's windows, in the rest of the corpus
_MAX_HELD_OUT = 0.1  # of a training file's windows, in the held-out packages,
_MIN_HELD_OUT = 4  # … and so many of them: one or two are everybody's imports


@dataclass(frozen=True, slots=True)
class CorpusOptions:
    """What the corpus is made of; `package_bytes` keeps one big package from dominating."""

    sources: tuple[Path, ...]
    benchmarks: tuple[Path, ...]
    held_out: tuple[str, ...] = HELD_OUT
    package_bytes: int = 8_000_000
    n_workers: int = 2


@dataclass(frozen=True, slots=True)
class Document:
    """One file that passed the filters, with its sketch."""

    path: str
    text: str
    windows: frozenset[int]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A package that was read: its documents, and why the other files were dropped."""

    archive: Archive
    terms: str
    allowed: bool
    documents: tuple[Document, ...] = ()
    dropped: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class PackageEntry:
    """One line of the manifest."""

    name: str
    version: str
    licence: str
    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Half:
    """One half of the corpus as the manifest describes it: what is in it, and what was left out and why."""

    n_packages: int
    n_files: int
    n_bytes: int
    dropped_files: dict[str, int]
    refused_packages: dict[str, str]
    packages: tuple[PackageEntry, ...]


def build_corpus(options: CorpusOptions, folder: Path) -> dict[str, Half]:
    """Writes `train`, `dev` and `manifest.json` into the folder and returns the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    archives = find_archives(options.sources)
    held = [archive for archive in archives if archive.name in options.held_out]
    rest = [archive for archive in archives if archive.name not in options.held_out]
    read = partial(read_candidate, carriers=read_benchmarks(options.benchmarks))
    seen, held_seen = Seen(), Seen()
    with multiprocessing.get_context("spawn").Pool(options.n_workers) as pool:
        dev = _write(_select(map(read, held), seen, Seen(), options.package_bytes), folder / "dev")
        held_seen.add(frozenset(seen.hashes))
        candidates = pool.imap(read, rest, chunksize=1)
        train = _write(_select(candidates, seen, held_seen, options.package_bytes), folder / "train")
    manifest = {"train": train, "dev": dev}
    values = {name: asdict(half) for name, half in manifest.items()}
    (folder / "manifest.json").write_text(json.dumps(values, indent=1) + "\n", "utf-8")
    return manifest


def read_candidate(archive: Archive, carriers: Benchmark) -> Candidate:
    """Reads one package and filters its files; a package under other terms is not read at all.

    Files come in an order that depends only on their paths, mixed, so that a capped package is a sample of itself.
    """
    verdict = package_verdict(read_metadata(archive))
    if not verdict.allowed:
        return Candidate(archive, verdict.terms, False)
    documents, dropped = [], Counter[str]()
    for file in read_sources(archive, ".py"):
        reason = reason_to_drop(file, carriers)
        if reason:
            dropped[reason] += 1
        else:
            text = mask(file.text)
            documents.append(Document(file.path, text, sketch(text)))
    documents.sort(key=lambda document: hashlib.sha256(document.path.encode()).digest())
    return Candidate(archive, verdict.terms, True, tuple(documents), dropped)


def read_benchmarks(paths: Iterable[Path]) -> Benchmark:
    """Reads gzipped JSON lines of problems with `prompt`, `suffix` and `entry_point`."""
    problems, names = [], []
    for path in paths:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        problems += [row["prompt"] + "\n" + row["suffix"] for row in rows]
        names += [row["entry_point"] for row in rows]
    return benchmark(problems, names) if names else Benchmark(frozenset())


def _select(candidates: Iterable[Candidate], seen: Seen, held_seen: Seen, package_bytes: int) -> Iterator[Candidate]:
    """Takes the documents that are new, up to the cap, and counts the others among the dropped."""
    for candidate in candidates:
        kept, n_bytes, dropped = [], 0, Counter(candidate.dropped)
        for document in candidate.documents:
            reason = _reason_to_skip(document, seen, held_seen)
            if reason is None and n_bytes >= package_bytes:
                reason = "cap"
            if reason:
                dropped[reason] += 1
                continue
            seen.add(document.windows)
            kept.append(document)
            n_bytes += len(document.text.encode())
        yield replace(candidate, documents=tuple(kept), dropped=dropped)


def _reason_to_skip(document: Document, seen: Seen, held_seen: Seen) -> str | None:
    if not document.windows:
        return "short"
    n_held = len(document.windows & held_seen.hashes)
    if n_held >= _MIN_HELD_OUT and n_held > _MAX_HELD_OUT * len(document.windows):
        return "held out"
    return "duplicate" if seen.share(document.windows) > _MAX_SEEN else None


def _write(candidates: Iterable[Candidate], path: Path) -> Half:
    entries: list[PackageEntry] = []
    ends: list[int] = []
    reasons = Counter[str]()
    refused: dict[str, str] = {}
    position = 0
    with path.with_suffix(".txt").open("wb") as file:
        for candidate in candidates:
            start = position
            for document in candidate.documents:
                position += file.write(document.text.encode())
                ends.append(position)
            archive = candidate.archive
            reasons.update(candidate.dropped)
            if not candidate.allowed:
                refused[archive.name] = candidate.terms
            elif candidate.documents:
                n_files = len(candidate.documents)
                entries.append(PackageEntry(archive.name, archive.version, candidate.terms, n_files, position - start))
    np.save(path.with_suffix(".npy"), np.array(ends, np.int64))
    return Half(len(entries), len(ends), position, dict(reasons.most_common()), refused, tuple(entries))
