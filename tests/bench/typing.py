"""What typing costs: `make bench-typing` replays recorded editing and writes build/bench/typing.json.

Tokens are counted in a model-free pass over the whole trace, times measured on a seeded sample with the shipped model.
Two baselines on the same tokenizer and windows: PSM order with one cached prompt whose agreeing beginning is reused (what
llama.cpp's clients do), and no cache.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

from engine.api import Chunk, Counters, EngineOptions, Order, Request, Stop
from engine.cache_pool import CachePool
from engine.config import GPTBigCodeConfig
from engine.decoder import Decoder
from engine.encoding import EncodedText, encode
from engine.fim import build_prompt, fit, max_chars
from engine.jobs import Job
from engine.local import REST_S
from engine.matching import n_common
from engine.model_files import SHIPPED_MODEL
from engine.runtime import Runtime, load
from engine.tokenizer import Tokenizer
from lsp_server.prompt import cut
from tests.bench.counting import CountingModel
from tests.bench.trace import Keystroke, keystrokes

N_RUNS, RUN_KEYS = 25, 20  # sampled for times: runs of typing, and the keys of each
MAX_TOKENS = 64
BACKENDS = ("ours", "psm_cache", "no_cache")


@dataclass(slots=True)
class Column:
    """Tokens of one backend over one set of keystrokes."""

    prefilled: list[int] = field(default_factory=list)
    n_prompt: int = 0
    n_background: int = 0

    def add(self, n_prompt: int, n_prefilled: int, n_background: int = 0) -> None:
        self.prefilled.append(n_prefilled)
        self.n_prompt += n_prompt
        self.n_background += n_background

    def summary(self) -> dict[str, float]:
        ordered = sorted(self.prefilled)
        return {
            "keystrokes": len(ordered),
            "prefilled_median": statistics.median(ordered),
            "prefilled_p95": _quantile(ordered, 0.95),
            "prefilled_p99": _quantile(ordered, 0.99),
            "prefilled_total": sum(ordered),
            "background_total": self.n_background,
            "reused_share": round(1 - sum(ordered) / self.n_prompt, 5),
        }


class Counter:
    """Replays requests without a model, ours and the baselines side by side."""

    def __init__(self) -> None:
        self._tokenizer = Tokenizer.from_pretrained(SHIPPED_MODEL)
        config = GPTBigCodeConfig.from_pretrained(SHIPPED_MODEL)
        model = CountingModel(config, self._tokenizer.special.end_of_text)
        pool = CachePool(model.new_cache, budget_bytes=1 << 30)
        self._decoder = Decoder(model, self._tokenizer, pool)  # type: ignore[arg-type]
        self._n_tokens = config.n_positions - MAX_TOKENS
        self._psm_before: tuple[int, ...] = ()
        self._prefix = self._suffix = EncodedText()
        self.max_chars = max_chars(config.n_positions)

    def ask(self, key: Keystroke, columns: list[dict[str, Column]]) -> None:
        """Asks at the keystroke, lets background work go on if a pause follows, and adds all up."""
        request = request_at(key, self.max_chars)
        counters = last_counters(self._decoder.complete(Job(request)))
        self._prefix = encode(request.prefix, self._tokenizer, self._prefix)
        self._suffix = encode(request.suffix, self._tokenizer, self._suffix)
        parts = fit(self._prefix.ids, self._suffix.ids, self._n_tokens)
        psm = build_prompt(*parts, Order.PSM, self._tokenizer.special).ids
        n_psm = max(len(psm) - n_common(psm, self._psm_before), 1)
        self._psm_before = psm
        for column in columns:
            column["ours"].add(counters.prompt, counters.prefilled, counters.background)
            column["psm_cache"].add(len(psm), n_psm)
            column["no_cache"].add(len(psm), len(psm))
        if key.gap_s > REST_S:
            self._decoder.prefetch(Job(request))


def request_at(key: Keystroke, max_chars: int, **options: object) -> Request:
    """What the language server would ask after the keystroke."""
    prompt = cut(key.text, key.cursor, max_chars)
    return Request(
        document="d", prefix=prompt.prefix, suffix=prompt.suffix, max_tokens=MAX_TOKENS, stop=Stop.NEWLINE, **options
    )  # type: ignore[arg-type]


def is_triggered(key: Keystroke, max_chars: int) -> bool:
    """Whether a suggestion would be asked for by itself: something was typed, and only closers follow on the line."""
    return key.is_typing and cut(key.text, key.cursor, max_chars).ends_line


def last_counters(chunks: Iterator[Chunk]) -> Counters:
    *_, last = chunks
    assert last.counters is not None
    return last.counters


def count_tokens(trace: Path) -> dict[str, dict[str, dict[str, float]]]:
    """The model-free passes: one in which every keystroke asks, one in which only triggered ones do."""
    columns = {name: {backend: Column() for backend in BACKENDS} for name in ("typing_runs", "triggered", "all")}
    every, triggered = Counter(), Counter()
    for key in keystrokes(trace):
        every.ask(key, [columns["all"], *([columns["typing_runs"]] if key.is_typing else [])])
        if is_triggered(key, triggered.max_chars):
            triggered.ask(key, [columns["triggered"]])
    return {name: {backend: column.summary() for backend, column in each.items()} for name, each in columns.items()}


def measure_times(trace: Path, seed: int) -> tuple[dict[str, dict[str, float]], float]:
    """First token and whole line, in milliseconds, and one pass of decoding, with the shipped model."""
    runtime = load(EngineOptions(kind="in-process"), lambda share: None)  # type: ignore[arg-type]
    runs = sample_runs(trace, seed)
    answers: dict[str, list[Counters]] = {backend: [] for backend in BACKENDS}
    for run in runs:
        for backend in BACKENDS:
            answers[backend] += replay(runtime, run, backend)
    steps = [
        (each.total_ms - each.first_ms) / (each.decoded - each.accepted)
        for each in answers["ours"]
        if each.decoded and each.first_ms
    ]
    return {backend: _times(each) for backend, each in answers.items()}, round(statistics.median(steps), 3)


def replay(runtime: Runtime, run: list[Keystroke], backend: str) -> list[Counters]:
    """Types one run; the key before it warms the cache and is not counted."""
    order = Order.AUTO if backend == "ours" else Order.PSM
    counted = []
    for key in run:
        if backend == "no_cache":
            runtime.decoder.forget("d")
        counted.append(
            last_counters(
                runtime.decoder.complete(Job(request_at(key, max_chars(runtime.model.config.n_positions), order=order)))
            )
        )
    runtime.decoder.forget("d")
    return counted[1:]


def sample_runs(trace: Path, seed: int) -> list[list[Keystroke]]:
    """Runs of uninterrupted typing, spread over the trace."""
    runs: list[list[Keystroke]] = []
    current: list[Keystroke] = []
    for key in keystrokes(trace):
        current = [*current, key] if key.is_typing else [key]
        if len(current) == RUN_KEYS + 1:
            runs.append(current)
            current = []
    return random.Random(seed).sample(runs, min(N_RUNS, len(runs)))


def _times(answers: list[Counters]) -> dict[str, float]:
    first = [answer.first_ms for answer in answers if answer.first_ms is not None]
    lines = sorted(answer.total_ms for answer in answers)
    return {
        "first_ms_median": round(statistics.median(first), 3),
        "line_ms_median": round(statistics.median(lines), 3),
        "line_ms_p95": round(_quantile(lines, 0.95), 3),
    }


def _quantile(ordered: list[float] | list[int], share: float) -> float:
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trace", type=Path)
    parser.add_argument("--out", type=Path, default=Path("build/bench/typing.json"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tokens-only", action="store_true", help="leave the times out")
    args = parser.parse_args()
    result: dict[str, object] = dict(count_tokens(args.trace))
    if not args.tokens_only:
        result["times"], result["decode_step_ms"] = measure_times(args.trace, args.seed)
        result["machine"] = {"threads": torch.get_num_threads(), "device": "cpu", "model": "shipped"}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
