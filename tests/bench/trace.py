"""Recorded editing sessions as a series of keystrokes: the document after each, and where the cursor then is.

Format: github.com/josephg/editing-traces, positions in code points. A trace has no cursor: after an insertion it is at its
end, unless the next edit falls inside what was inserted (an editor closed a bracket by itself), after a deletion where that
was. Times have a resolution of a second, so the gaps inside one are drawn, seeded.
"""

from __future__ import annotations

import gzip
import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from lsp_server.text import Encoding, Text

KEY_GAP_S = (0.05, 0.35)  # between two keys of one second


@dataclass(frozen=True, slots=True)
class Keystroke:
    """One edit: the text after it, the cursor, whether it went on typing at the cursor before, and the pause behind it."""

    text: Text
    cursor: int
    is_typing: bool
    gap_s: float


def keystrokes(path: Path, seed: int = 0) -> Iterator[Keystroke]:
    """Replays a trace; the first transaction is the file as it was opened."""
    trace = json.loads(gzip.decompress(path.read_bytes()))
    rng = random.Random(seed)
    text, cursor = Text.of(trace["startContent"], Encoding.UTF_32), -1
    first, *rest = trace["txns"]
    text = _applied(text, first["patches"])
    for txn, following in itertools.zip_longest(rest, rest[1:]):
        text = _applied(text, txn["patches"])
        start, n_deleted, inserted = txn["patches"][-1]
        is_typing = len(txn["patches"]) == 1 and start == cursor and not n_deleted and bool(inserted)
        cursor = start + len(inserted)
        if following is not None and start < following["patches"][0][0] < cursor:
            cursor = following["patches"][0][0]
        yield Keystroke(text, cursor, is_typing, _gap_s(txn, following, rng))
    assert str(text) == trace["endContent"]


def _applied(text: Text, patches: list[tuple[int, int, str]]) -> Text:
    for start, n_deleted, inserted in patches:
        text = text.replace(text.position(start), text.position(start + n_deleted), inserted)
    return text


def _gap_s(txn: dict[str, str], following: dict[str, str] | None, rng: random.Random) -> float:
    if following is None:
        return 1.0
    whole_s = (datetime.fromisoformat(following["time"]) - datetime.fromisoformat(txn["time"])).total_seconds()
    return rng.uniform(*KEY_GAP_S) if whole_s < 1 else max(whole_s - rng.random(), KEY_GAP_S[0])
