"""The CPU path against its peers: `make bench-cpu` writes build/bench/cpu.json.

One set of random weights per shape, in each engine's format; every engine in a process of its own, asked in turns. The
memory's speed is measured in the same run, by as many threads. SHAPE and ROUNDS may be given: one shape takes minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import json
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from engine.cores import n_physical_cores
from tests.bench.idle import idle_cpu_percent
from tests.bench.peers import convert
from tests.bench.shapes import config, write_random

SHAPES = ("tiny_starcoder_py", "santacoder")
ENGINES = ("midfill", "transformers", "ctranslate2 int8", "llama.cpp q8_0", "llama.cpp q4_0")
N_DECODE = 24
SHORT, LONG, DOCUMENT = 512, 1900, 1500  # tokens
DISTRIBUTIONS = {"ctranslate2 int8": "ctranslate2", "llama.cpp q8_0": "llama-cpp-python", "llama.cpp q4_0": "llama-cpp-python"}


class Worker:
    """One engine's process."""

    def __init__(self, name: str, folder: Path, n_threads: int) -> None:
        command = [sys.executable, "-m", "tests.bench.peers", name, str(folder), str(n_threads)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.load_s: float = self._answer()["load_s"]

    def __call__(self, command: str, argument: Any = 0) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command} {json.dumps(argument)}\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        for line in self._process.stdout:
            if line.startswith(("{", "[")) or line[:1].isdigit():  # a library may print of its own
                return json.loads(line)
        error = self._process.stderr.read().strip().splitlines()
        raise RuntimeError(error[-1] if error else "its process ended")


def checkpoint(name: str, build: Path) -> Path:
    """A folder with the shape's random weights."""
    folder = build / f"cpu-{name}"
    return folder if (folder / "tokenizer.json").exists() else write_random(name, folder)


def weight_bytes(name: str) -> tuple[int, int]:
    """int8 bytes that one token reads: all weights, and the keys and values of one cached token."""
    shape = config(name)
    attention = shape.n_embd * (shape.n_embd + 2 * shape.head_dim) + shape.n_embd * shape.n_embd
    # The first layer's attention has two bytes a weight.
    layers = shape.n_layer * (attention + 8 * shape.n_embd * shape.n_embd) + attention
    return layers + shape.vocab_size * shape.n_embd, shape.n_layer * 2 * shape.head_dim * 4


def measure(name: str, build: Path, n_threads: int, n_rounds: int) -> dict[str, Any]:
    """All engines on one shape, in turns."""
    folder = checkpoint(name, build)
    workers: dict[str, Worker] = {}
    result: dict[str, Any] = {}
    for engine in ENGINES:
        try:
            convert(engine, folder)
            if engine == "midfill":
                Worker(engine, folder, n_threads).close()  # quantises and keeps; what counts is the second start
            workers[engine] = Worker(engine, folder, n_threads)
        except (ImportError, RuntimeError) as error:
            result[engine] = {"missing": str(error)}
    times: dict[str, dict[str, list[float]]] = {engine: defaultdict(list) for engine in workers}
    read_gb_s = []
    for _ in range(n_rounds):
        read_gb_s.append(workers["midfill"]("read_gb_s", 5))
        for engine, worker in workers.items():
            for n_prompt in (LONG, SHORT):
                times[engine][f"prefill_{n_prompt}_ms"].append(worker("prefill", n_prompt))
            times[engine]["decode_ms"] += worker("decode", N_DECODE)
    for engine, worker in workers.items():
        medians = {key: round(statistics.median(values), 3) for key, values in times[engine].items()}
        result[engine] = medians | {"load_s": round(worker.load_s, 2), "rss_mb": round(worker("rss_mb"))}
        if engine in DISTRIBUTIONS:
            result[engine]["version"] = importlib.metadata.version(DISTRIBUTIONS[engine])
    midfill = workers["midfill"]
    midfill("prefill", DOCUMENT)
    step_ms = statistics.median(midfill("decode", N_DECODE))
    key_ms = {n_new: statistics.median(midfill("keystroke", n_new) for _ in range(9)) for n_new in (1, 2)}
    for worker in workers.values():
        worker.close()
    weights, kv = weight_bytes(name)
    n_bytes = weights + kv * (SHORT + N_DECODE // 2)
    result["read_gb_s"] = round(statistics.median(read_gb_s), 2)
    result["roofline_share"] = round(n_bytes / (result["midfill"]["decode_ms"] * 1e6 * result["read_gb_s"]), 3)
    result["keystroke_in_steps"] = {n_new: round(each / step_ms, 3) for n_new, each in key_ms.items()}
    result["times_as_fast"] = {
        engine: {
            key: round(result[engine][key] / result["midfill"][key], 2)
            for key in (f"prefill_{SHORT}_ms", f"prefill_{LONG}_ms", "decode_ms")
        }
        for engine in workers
    }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, action="append", help="which to run; all by default")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=n_physical_cores())
    parser.add_argument("--build", type=Path, default=Path("build/bench"))
    options = parser.parse_args()
    options.build.mkdir(parents=True, exist_ok=True)
    path = options.build / "cpu.json"
    results: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    for name in options.shape or SHAPES:
        results[name] = measure(name, options.build, options.threads, options.rounds)
        path.write_text(json.dumps(results, indent=2) + "\n", "utf-8")
        print(json.dumps({name: results[name]}, indent=2))
    results["idle_cpu_percent"] = asyncio.run(idle_cpu_percent())
    path.write_text(json.dumps(results, indent=2) + "\n", "utf-8")
    print(f"idle: {results['idle_cpu_percent']} % of a core")


if __name__ == "__main__":
    main()
