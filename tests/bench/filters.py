"""What the filters cost on two hundred lines, each beside a plain reading of the same lines in the same run.

Writes build/bench/filters.json: for each language and filter the milliseconds and the ratio to that reading.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from lsp_server.closers import Draft
from lsp_server.guard import guard
from lsp_server.place import Place
from lsp_server.postprocess import FILTERS, is_past_block, postprocess
from lsp_server.trigger import Mode, decide

N_LINES = 200
LINES = {
    "python": ("def f(items):\n", "    value_{n} = compute(items[{n}], 'a', (b, c))  # {n}", ""),
    "javascript": ("function f(items) {\n", "  const value_{n} = compute(items[{n}], 'a', [b, c]); // {n}", "\n}"),
    "go": ("func f(items []int) {\n", '\tvalue_{n} := compute(items[{n}], "a", g(b, c)) // {n}', "\n}"),
    "rust": ("fn f(items: &[u8]) {\n", '    let value_{n} = compute(items[{n}], "a", (b, c)); // {n}', "\n}"),
    "markdown": ("# Items\n", "- item {n} (it's the {n}th) of [many](items)", ""),
}


def best_ms(work: Callable[[], object]) -> float:
    times = []
    for _ in range(9):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times) * 1000


def measured(language: str) -> dict[str, dict[str, float]]:
    head, line, tail = LINES[language]
    body = [line.format(n=n) for n in range(2 * N_LINES)]
    indent = line[: len(line) - len(line.lstrip())]
    prefix = head + "\n".join(body[: N_LINES // 2]) + "\n" + indent
    suffix = "\n" + "\n".join(body[-N_LINES // 2 :]) + tail
    raw = "\n".join(body[N_LINES // 2 : N_LINES // 2 + N_LINES]).lstrip()
    place = Place.at(language, prefix, suffix)
    works: dict[str, Callable[[], object]] = {
        "place": lambda: Place.at(language, prefix, suffix),
        "trigger": lambda: decide(place, invoked=False),
        **{each.__name__: (lambda each=each: each(Draft(raw), place)) for each in (*FILTERS[Mode.BLOCK], *FILTERS[Mode.LINE])},
        "guard": lambda: guard(Draft(raw), place, Draft(raw)),
        "is_past_block": lambda: is_past_block(raw, place),
        "postprocess": lambda: postprocess(raw, place, Mode.BLOCK),
    }
    reading = best_ms(lambda: [each.strip().split() for each in (prefix + raw + suffix).split("\n")])
    costs = {name: best_ms(work) for name, work in works.items()}
    return {name: {"ms": round(ms, 3), "per_reading": round(ms / reading, 1)} for name, ms in costs.items()}


def main() -> None:
    report = {language: measured(language) for language in LINES}
    path = Path("build/bench/filters.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    for language, costs in report.items():
        slowest = sorted(costs.items(), key=lambda each: -each[1]["ms"])[:5]
        sys.stdout.write(f"{language:12}" + "  ".join(f"{name} {cost['ms']:.2f} ms" for name, cost in slowest) + "\n")


if __name__ == "__main__":
    main()
