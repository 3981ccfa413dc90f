"""Local counters of what suggestions are worth and what they cost: numbers only, kept on this machine, sent nowhere."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from difflib import SequenceMatcher
from itertools import accumulate
from pathlib import Path
from typing import Any

from lsp_server.text import Text

_log = logging.getLogger(__name__)

KEPT_AFTER_S = 30.0
COUNTS = (
    *("requests", "from_memory", "offered", "shown", "accepted", "partially_accepted", "dismissed"),
    *("chars_offered", "chars_accepted", "chars_accepted_in_part", "chars_kept", "chars_kept_of"),
    *("tokens_reused", "tokens_prefilled", "tokens_decoded", "tokens_wasted", "tokens_ahead"),
)
# Upper edges of the latency buckets: with these a percentile is true to a quarter, and files of many sessions add up.
_EDGES_MS = tuple(round(0.1 * 1.25**n, 3) for n in range(56))
_N_BUCKETS = len(_EDGES_MS) + 1
_CONTEXT_CHARS = 40


class Stats:
    """Counts in memory; `save` adds what was counted since to the user's file, which all servers share."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._counts: Counter[str] = Counter()
        self._latencies: Counter[int] = Counter()  # by bucket
        self._offered: set[str] = set()
        self._n_left: dict[str, int] = {}  # characters not yet taken, by the suggestion of which part was

    def count(self, name: str, n: int = 1) -> None:
        assert name in COUNTS
        self._counts[name] += n

    def answered(self, counters: Any) -> None:
        """Counts an answer, by its counters."""
        self.count("requests")
        self.count("from_memory", counters.finish == "shown")

    def written(self, counters: Any) -> None:
        """Adds the tokens of a completion from the engine's counters, whether it was shown, came too late or was stopped."""
        for name in ("reused", "prefilled", "decoded", "wasted"):
            self.count(f"tokens_{name}", getattr(counters, name))

    def written_ahead(self, counters: Any) -> None:
        """Adds the tokens of a completion that nobody had asked for yet."""
        self.count("tokens_ahead", counters.prefilled + counters.decoded + counters.wasted)

    def offered(self, suggestion_id: str, n_chars: int) -> None:
        """Counts a suggestion once, however often its rest is served while it is typed through."""
        if suggestion_id not in self._offered:
            self._offered.add(suggestion_id)
            self.count("offered")
            self.count("chars_offered", n_chars)

    def taken_in_part(self, suggestion_id: str, n_chars: int, n_taken: int) -> None:
        """Counts a word or a line that was taken of a text of `n_chars`.

        A client that drew the rest by itself goes on counting in the first text, one that asked again counts in the rest.
        """
        n_left = n_chars - min(n_taken, n_chars)
        n_before = self._n_left.get(suggestion_id, n_chars)
        self._n_left[suggestion_id] = min(n_left, n_before)
        self.count("partially_accepted")
        self.count("chars_accepted_in_part", max(n_before - n_left, 0))

    def took(self, ms: float) -> None:
        """Counts the time from a request's arrival to its answer."""
        self._latencies[bisect_left(_EDGES_MS, ms)] += 1

    def kept(self, n_kept: int, n_chars: int) -> None:
        """Counts what of an accepted suggestion is still there."""
        self.count("chars_kept", n_kept)
        self.count("chars_kept_of", n_chars)

    def summary(self) -> dict[str, Any]:
        """Gives the totals of all sessions, this one included, and latency percentiles."""
        stored = _read(self._path)
        counts = Counter(stored["counts"]) + self._counts
        latencies = Counter(dict(enumerate(stored["latencies"]))) + self._latencies
        return {
            "since": stored["since"],
            **{name: counts[name] for name in COUNTS},
            "latency_ms": {f"p{share}": _percentile(latencies, share / 100) for share in (50, 90, 99)},
        }

    def rows(self) -> Iterator[tuple[str, object]]:
        """Gives the summary line by line, for a person."""
        summary = self.summary()
        latencies = summary.pop("latency_ms")
        yield from summary.items()
        for name, value in latencies.items():
            yield f"latency_ms_{name}", "-" if value is None else value
        for name, part, whole in (
            ("share_accepted", summary["accepted"], summary["shown"] or summary["offered"]),
            ("share_kept", summary["chars_kept"], summary["chars_kept_of"]),
            ("share_reused", summary["tokens_reused"], summary["tokens_reused"] + summary["tokens_prefilled"]),
        ):
            yield name, f"{part / whole:.1%}" if whole else "-"

    def save(self) -> None:
        """Adds this session's numbers to the file; a file that can't be written costs the numbers, not the server."""
        if self._path is None or not self._counts:
            return
        try:
            with _locked(self._path):
                stored = _read(self._path)
                counts = Counter(stored["counts"]) + self._counts
                latencies = [n + self._latencies[idx] for idx, n in enumerate(stored["latencies"])]
                fresh = self._path.with_name(f"{self._path.name}.{os.getpid()}")
                fresh.write_text(json.dumps({"since": stored["since"], "counts": counts, "latencies": latencies}), "utf-8")
                fresh.replace(self._path)
        except OSError as error:
            _log.warning("the local counters can't be kept: %s", error)
        self._counts.clear()
        self._latencies.clear()


def n_kept(text: Text, offset: int, before: str, accepted: str) -> int:
    """Counts the characters of an accepted suggestion that are still where it was put, in order.

    Edits elsewhere move the place: what stood before it is looked for, the nearest first.
    """
    reach = 4 * len(accepted) + 4000
    start = max(0, offset - len(before) - reach)
    around = text.slice(start, min(text.n_chars, offset + reach))
    context = before[-_CONTEXT_CHARS:]
    ends = [at + len(context) for at in _occurrences(around, context)]
    at = min(ends, key=lambda end: abs(start + end - offset), default=offset - start)
    now = around[at : at + len(accepted) + len(accepted) // 2 + _CONTEXT_CHARS]
    return sum(block.size for block in SequenceMatcher(None, accepted, now, autojunk=False).get_matching_blocks())


def _occurrences(text: str, part: str) -> Iterator[int]:
    at = text.find(part) if part else -1
    while at >= 0:
        yield at
        at = text.find(part, at + 1)


def _percentile(latencies: Counter[int], share: float) -> float | None:
    """Gives the upper edge of the bucket that the percentile falls into; None where nothing was measured."""
    n = latencies.total()
    sums = accumulate(latencies[idx] for idx in range(_N_BUCKETS))
    idx = next((idx for idx, so_far in enumerate(sums) if n and so_far >= share * n), None)
    return None if idx is None else _EDGES_MS[min(idx, len(_EDGES_MS) - 1)]


def _read(path: Path | None) -> dict[str, Any]:
    """Reads the file; one that is missing or is not ours starts anew."""
    new = {"since": datetime.now(UTC).date().isoformat(), "counts": {}, "latencies": [0] * _N_BUCKETS}
    if path is None:
        return new
    try:
        stored = json.loads(path.read_text("utf-8"))
        is_ours = (
            isinstance(stored["since"], str)
            and all(isinstance(n, int) for n in stored["counts"].values())
            and len(stored["latencies"]) == _N_BUCKETS
            and all(isinstance(n, int) for n in stored["latencies"])
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return new
    return stored if is_ours else new


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keeps other servers from writing meanwhile; on Windows two that end at once may lose one's numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if os.name != "posix":
        yield
        return
    import fcntl

    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
