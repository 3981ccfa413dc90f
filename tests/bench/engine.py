"""What the engine promises besides tokens: `make bench-engine` writes build/bench/engine.json.

How soon a cancelled job ends, beside the time of one layer of a chunk; what the first suggestion after a jump takes at
SantaCoder's shape; what a key costs at the end of a long document, beside a short one; tokens per forward pass with drafts;
bytes per cached token.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import threading
import time
from pathlib import Path

import torch

from engine.api import Counters, EngineOptions, Request, Stop
from engine.decoder import CHUNK_TOKENS
from engine.fim import max_chars
from engine.jobs import Job
from engine.model_files import SHIPPED_MODEL
from engine.runtime import Runtime, load, warm_up
from lsp_server.prompt import cut
from lsp_server.text import Encoding, Text
from tests.bench.shapes import write_random
from tests.bench.typing import last_counters

N_PREFILL = 2000  # tokens, about, of a prompt that is cancelled
DEADLINE_MS = 1000.0  # the server's default

REPETITIVE = """class Colours:
    RED = Colour("red", 0)
    GREEN = Colour("green", 1)
    BLUE = Colour("blue", 2)

    def __init__(self, red, green, blue):
        self.red = red
        self.green = green
        self.blue = blue

    def copy(self, red, green, blue):
"""
PLAIN = '''import json
from pathlib import Path


def read_settings(path: Path) -> dict[str, object]:
    """Reads what the user wrote, or nothing."""
    try:
'''


def open_runtime(model: str) -> Runtime:
    runtime = load(EngineOptions(model=model), lambda share: None)
    warm_up(runtime)
    return runtime


def run(runtime: Runtime, request: Request) -> Counters:
    return last_counters(runtime.decoder.complete(Job(request, emit=lambda chunk: None)))


def python_text(n_chars: int, seed: int) -> str:
    """Lines that are all different, as source code is."""
    rng = random.Random(seed)
    lines: list[str] = []
    while sum(map(len, lines)) < n_chars:
        name, other = (f"{rng.choice(('load', 'parse', 'merge', 'index'))}_{rng.randrange(10_000)}" for _ in range(2))
        lines.append(f"    {name} = {other}({rng.randrange(1000)}, key={name!r})\n")
    return "".join(lines)


def cancel_ms(runtime: Runtime, n_times: int, *, while_decoding: bool) -> list[float]:
    """From `cancel` to the end of the job, which runs in a thread of its own as in the engine."""
    rng, waits = random.Random(0), []
    text = python_text(N_PREFILL * 3, seed=0)
    for idx in range(n_times):
        prefix, suffix = (text, "") if not while_decoding else (PLAIN, "")
        request = Request(document=f"{idx}", prefix=prefix, suffix=suffix, stop=Stop.NONE, max_tokens=64)
        job, ended = Job(request, emit=lambda chunk: None), threading.Event()
        first = threading.Event()

        def work(job: Job = job, first: threading.Event = first, ended: threading.Event = ended) -> None:
            for _ in runtime.decoder.complete(job):
                first.set()
            ended.set()

        threading.Thread(target=work).start()
        if while_decoding:
            first.wait()
            time.sleep(rng.uniform(0.0, 0.02))
        else:
            time.sleep(rng.uniform(0.005, 0.05))
        cancelled_s = time.perf_counter()
        job.cancel()
        ended.wait()
        waits.append((time.perf_counter() - cancelled_s) * 1000)
        runtime.decoder.forget(request.document)
    return waits


def layer_ms(runtime: Runtime) -> float:
    """One layer of a whole chunk, behind 1,000 cached tokens."""
    request = Request(document="layer", prefix=python_text(N_PREFILL * 3, seed=1), suffix="", max_tokens=1)
    run(runtime, request)
    counters = [run(runtime, Request(document=f"layer {n}", prefix=request.prefix, suffix="", max_tokens=1)) for n in range(3)]
    per_token = statistics.median((each.first_ms or each.total_ms) / each.prefilled for each in counters)
    return per_token * CHUNK_TOKENS / runtime.model.config.n_layer


def jump(runtime: Runtime) -> dict[str, object]:
    """The first suggestion at a place of which nothing is cached, and the full window behind it."""
    n_chars = max_chars(runtime.model.config.n_positions)
    answers = []
    for seed in range(5):
        prompt = cut(Text.of(python_text(4 * n_chars, seed=seed), Encoding.UTF_16), 2 * n_chars, n_chars)
        request = Request(document=f"{seed}", prefix=prompt.prefix, suffix=prompt.suffix, deadline_ms=DEADLINE_MS)
        answers.append(run(runtime, request))
        runtime.decoder.forget(request.document)
    first = [each.first_ms or each.total_ms for each in answers]
    return {
        "first_ms_median": round(statistics.median(first), 1),
        "total_ms_max": round(max(each.total_ms for each in answers), 1),
        "windows": sorted({str(each.window) for each in answers}),
        "prompt_median": statistics.median(each.prompt for each in answers),
    }


def long_document(runtime: Runtime, n_keys: int) -> dict[str, float]:
    """A key at the end of 20,000 lines and of 200, in turns: the edit, the windows and the engine's answer."""
    times: dict[int, list[float]] = {200: [], 20_000: []}
    texts = {n: Text.of("".join(python_text(60 * n, seed=2).splitlines(keepends=True)[:n]), Encoding.UTF_16) for n in times}
    n_chars = max_chars(runtime.model.config.n_positions)
    for key in "    total_price = unit_price * quantity + shipping"[:n_keys]:
        for n_lines, text in texts.items():
            started_s = time.perf_counter()
            end = text.position(text.n_chars)
            text = texts[n_lines] = text.replace(end, end, key)
            prompt = cut(text, text.n_chars, n_chars)
            run(runtime, Request(document=f"{n_lines}", prefix=prompt.prefix, suffix=prompt.suffix, max_tokens=8))
            times[n_lines].append((time.perf_counter() - started_s) * 1000)
    short, long = (statistics.median(times[n][1:]) for n in (200, 20_000))
    return {"ms_at_200_lines": round(short, 3), "ms_at_20000_lines": round(long, 3), "ratio": round(long / short, 3)}


def tokens_per_forward(runtime: Runtime, prefix: str) -> float:
    counters = run(runtime, Request(document=prefix, prefix=prefix, suffix="\n", stop=Stop.NONE, max_tokens=100))
    return round(counters.decoded / (counters.decoded - counters.accepted), 3)


def bytes_per_token(runtime: Runtime) -> dict[str, float]:
    shape = runtime.model.transformer.new_cache().shape
    return {
        "allocated": shape.bytes_per_token,
        "wanted": shape.n_layer * 2 * shape.n_kv_head * shape.head_dim * shape.dtype.itemsize,
    }


def measure_cancel(runtime: Runtime, n_times: int) -> dict[str, float]:
    prefill, decode = (cancel_ms(runtime, n_times, while_decoding=decoding) for decoding in (False, True))
    return {
        "prefill_p99_ms": round(statistics.quantiles(prefill, n=100)[98], 3),
        "decode_p99_ms": round(statistics.quantiles(decode, n=100)[98], 3),
        "layer_of_chunk_ms": round(layer_ms(runtime), 3),
        "n": n_times,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/bench/engine.json"))
    parser.add_argument("--cancels", type=int, default=200)
    args = parser.parse_args()
    shipped = open_runtime(str(SHIPPED_MODEL))
    result: dict[str, object] = {
        "machine": {"threads": torch.get_num_threads(), "dtype": shipped.placement.dtype_name},
        "cancel_shipped": measure_cancel(shipped, args.cancels),
        "long_document": long_document(shipped, n_keys=50),
        "tokens_per_forward": {
            "repetitive": tokens_per_forward(shipped, REPETITIVE),
            "plain": tokens_per_forward(shipped, PLAIN),
        },
        "bytes_per_token": bytes_per_token(shipped),
    }
    del shipped
    with tempfile.TemporaryDirectory() as folder:
        santacoder = open_runtime(str(write_random("santacoder", Path(folder) / "santacoder")))
        result["jump_santacoder"] = jump(santacoder)
        result["cancel_santacoder"] = measure_cancel(santacoder, max(args.cancels // 10, 2))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
