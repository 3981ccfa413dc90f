"""What a key costs beside other engines: `make bench-typing-peers` adds "peers" to build/bench/typing.json.

Recorded keys, one set of random weights in int8, lines of a fixed number of tokens. Each peer is asked as its clients ask it:
llama.cpp in PSM order, with the cached prompt's agreeing beginning reused; CTranslate2 with the whole prompt, for it has no
cache. Time is that of the engine alone, from the request to the line's last token. A few minutes.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from engine.api import Order
from engine.cores import n_physical_cores
from engine.fim import N_SPECIAL, build_prompt, fit, max_chars
from engine.tokenizer import Tokenizer
from lsp_server.prompt import cut
from tests.bench.cpu import Worker, checkpoint
from tests.bench.peers import N_CONTEXT, convert
from tests.bench.trace import Keystroke
from tests.bench.typing import sample_runs

OURS, SHAPE = "midfill typing", "tiny_starcoder_py"
PEERS = ("ctranslate2 int8", "llama.cpp q8_0", "llama.cpp q4_0")
N_RUNS, N_KEYS, N_LINE = 3, 10, 12  # runs of typing, keys of each that are counted, tokens of a line


class Asked:
    """One keystroke as every engine is asked: the same text."""

    def __init__(self, key: Keystroke, tokenizer: Tokenizer) -> None:
        prompt = cut(key.text, key.cursor, max_chars(N_CONTEXT))
        self._texts = {"prefix": prompt.prefix, "suffix": prompt.suffix}
        parts = fit(tokenizer.encode(prompt.prefix), tokenizer.encode(prompt.suffix), N_CONTEXT - N_SPECIAL - N_LINE)
        self.psm = build_prompt(*parts, Order.PSM, tokenizer.special).ids

    def line(self, engine: str, worker: Worker) -> float:
        """Milliseconds to a whole line."""
        ms: float = worker("line", {"n": N_LINE, **(self._texts if engine == OURS else {"ids": self.psm})})
        return ms


def measure(trace: Path, folder: Path, n_threads: int) -> dict[str, Any]:
    """All engines, in turns at every key; the key before each run warms caches and is not counted."""
    tokenizer = Tokenizer.from_pretrained(folder)
    workers: dict[str, Worker] = {}
    result: dict[str, Any] = {"n_threads": n_threads, "tokens_of_a_line": N_LINE}
    for engine in (OURS, *PEERS):
        try:
            convert(engine, folder)
            workers[engine] = Worker(engine, folder, n_threads)
        except (ImportError, RuntimeError) as error:
            result[engine] = {"missing": str(error)}
    times: dict[str, list[float]] = {engine: [] for engine in workers}
    n_prompt = []
    for run in sample_runs(trace, seed=0)[:N_RUNS]:
        for idx, key in enumerate(run[: N_KEYS + 1]):
            asked = Asked(key, tokenizer)
            ms = {engine: asked.line(engine, worker) for engine, worker in workers.items()}
            if idx:
                n_prompt.append(len(asked.psm))
                for engine in workers:
                    times[engine].append(ms[engine])
    for worker in workers.values():
        worker.close()
    result |= {"keys": len(n_prompt), "tokens_of_a_prompt": statistics.median(n_prompt)}
    for engine, each in times.items():
        result[engine] = {"line_ms_median": round(statistics.median(each), 2), "line_ms_p95": round(_p95(each), 2)}
    for name in ("line_ms_median", "line_ms_p95"):
        of_peers = [result[engine][name] for engine in PEERS if engine in times]
        if of_peers:
            result[f"{name}_times_as_fast_as_the_best"] = round(min(of_peers) / result[OURS][name], 2)
    return result


def _p95(values: list[float]) -> float:
    return sorted(values)[min(int(0.95 * len(values)), len(values) - 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trace", type=Path)
    parser.add_argument("--build", type=Path, default=Path("build/bench"))
    parser.add_argument("--threads", type=int, default=n_physical_cores())
    options = parser.parse_args()
    options.build.mkdir(parents=True, exist_ok=True)
    result = measure(options.trace, checkpoint(SHAPE, options.build), options.threads)
    path = options.build / "typing.json"
    others: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    path.write_text(json.dumps(others | {"peers": result}, indent=2) + "\n", "utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
