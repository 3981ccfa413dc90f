"""Whether to wait before the model is asked: `make bench-debounce` replays recorded gaps and writes build/bench/debounce.json.

Of each keystroke at which a suggestion would come by itself: is the model asked, is its answer there before the next key,
and how long did it work for nothing. A trace's times are whole seconds, so the keys of one second are put at random places
in it, seeded. A stretch of typing is what no pause of ten seconds interrupts.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine.fim import max_chars
from lsp_server.debounce import Rhythm
from tests.bench.trace import keystrokes
from tests.bench.typing import is_triggered

ANSWERS_MS = (30, 100, 300, 1000)
FIXED_MS = (0, 75, 150, 300)
_N_POSITIONS = 2048


@dataclass(frozen=True, slots=True)
class Key:
    """A keystroke: when, whether it triggers, and how long until the next."""

    at_s: float
    triggers: bool
    gap_s: float


def keys(trace: Path, seed: int) -> list[Key]:
    """Gives the trace's keystrokes; the gaps inside one second are those of random places in it."""
    rng = random.Random(seed)
    read = list(keystrokes(trace))
    ends = [idx for idx, key in enumerate(read) if key.gap_s >= 1 or idx == len(read) - 1]
    gaps = [key.gap_s for key in read]
    first = 0
    for last in ends:
        n = last - first
        total_s = sum(gaps[first:last])
        cuts = sorted(rng.random() for _ in range(max(0, n - 1)))
        gaps[first:last] = [total_s * (b - a) for a, b in zip([0.0, *cuts], [*cuts, 1.0], strict=True)][:n] if n else []
        first = last + 1
    at_s, made = 0.0, []
    for key, gap_s in zip(read, gaps, strict=True):
        made.append(Key(at_s, is_triggered(key, max_chars(_N_POSITIONS)), gap_s))
        at_s += gap_s
    return made


def simulate(typed: list[Key], answer_s: float, wait: Callable[[Rhythm], float]) -> dict[str, float]:
    """Plays one policy; an answer counts as shown where it comes before the next key."""
    rhythm = Rhythm()
    n_asked, n_shown, wasted_s, shown_after_s = 0, 0, 0.0, 0.0
    for key in typed:
        rhythm.key(key.at_s)
        if not key.triggers:
            continue
        wait_s = wait(rhythm)
        if wait_s >= key.gap_s:
            continue
        n_asked += 1
        if wait_s + answer_s < key.gap_s:
            n_shown += 1
            shown_after_s += wait_s + answer_s
            rhythm.answer(answer_s)
        else:
            wasted_s += key.gap_s - wait_s
    n_triggers = sum(key.triggers for key in typed)
    return {
        "triggers": n_triggers,
        "asked": n_asked,
        "shown": n_shown,
        "shown_share": round(n_shown / n_triggers, 4),
        "wasted_s": round(wasted_s, 1),
        "shown_after_ms": round(1000 * shown_after_s / max(1, n_shown), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trace", type=Path)
    parser.add_argument("--out", type=Path, default=Path("build/bench/debounce.json"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    typed = keys(args.trace, args.seed)
    policies: dict[str, Callable[[Rhythm], float]] = {"adaptive": lambda rhythm: rhythm.wait_s}
    policies |= {f"fixed_{ms}_ms": (lambda rhythm, ms=ms: ms / 1000) for ms in FIXED_MS}  # type: ignore[misc]
    result = {
        f"answer_{answer_ms}_ms": {name: simulate(typed, answer_ms / 1000, wait) for name, wait in policies.items()}
        for answer_ms in ANSWERS_MS
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
