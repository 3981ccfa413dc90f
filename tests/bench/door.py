"""What the way to the resident engine costs: `make bench-door` writes build/bench/door.json.

The same requests go to a scripted engine in this process and to one like it in a process of its own, over the real
socket, in turns. A request's overhead is the difference of such a pair, from asking to the end of the answer; a chunk's cost
is the time from the chunk before it, for the scripted engine itself takes next to none.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path

from engine.api import Engine, EngineKind, EngineOptions, Request, Stop
from engine.client import ResidentEngine
from engine.scripted import ScriptedEngine

N_REQUESTS, N_WARM_UP = 3000, 200
TEXT = "    return width * height + border"
REQUEST = Request(document="d", prefix="x" * 6000, suffix="y" * 2000, stop=Stop.NONE)  # a full window of text


async def request_ms(engine: Engine) -> tuple[float, list[float]]:
    """From asking to the end of the answer, and from each chunk to the next."""
    started_s = before_s = time.perf_counter()
    gaps = []
    async for _ in engine.complete(REQUEST):
        now_s = time.perf_counter()
        gaps.append((now_s - before_s) * 1000)
        before_s = now_s
    return (before_s - started_s) * 1000, gaps[1:]


async def measure(n_requests: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "script.json"
        script.write_text(json.dumps([{"prefix_ends": "", "text": TEXT}]), "utf-8")
        options = EngineOptions(kind=EngineKind.SCRIPTED, script=str(script), idle_exit_s=1.0)
        here, there = ScriptedEngine.from_file(str(script)), ResidentEngine(options)
        overheads, chunks = [], []
        for n in range(N_WARM_UP + n_requests):
            here_ms, _ = await request_ms(here)
            there_ms, gaps = await request_ms(there)
            if n >= N_WARM_UP:
                overheads.append(there_ms - here_ms)
                chunks += gaps
        await there.aclose()
    return {
        "request_overhead_ms_p50": round(statistics.median(overheads), 4),
        "request_overhead_ms_p99": round(statistics.quantiles(overheads, n=100)[98], 4),
        "chunk_ms_p50": round(statistics.median(chunks), 4),
        "chunk_ms_p99": round(statistics.quantiles(chunks, n=100)[98], 4),
        "n": n_requests,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=N_REQUESTS)
    parser.add_argument("--out", type=Path, default=Path("build/bench/door.json"))
    args = parser.parse_args()
    result = asyncio.run(measure(args.requests))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
