"""What the way to the resident engine costs: `make bench-door` writes build/bench/door.json.

The same requests go to a scripted engine in this process and to one like it in a process of its own, over the real
socket, in turns. A request's overhead is the difference of such a pair, from asking to the end of the answer. A chunk's
cost is the time from when the engine wrote it to when it is read; its text is that time, by the clock that both
processes read.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

from engine.api import Chunk, Counters, Engine, EngineKind, EngineOptions, Request, Stop
from engine.client import ProcessEngine
from engine.link import Link
from engine.process import EngineProcess
from engine.scripted import ScriptedEngine

N_REQUESTS, N_WARM_UP = 3000, 200
N_CHUNKS, TOKEN_S = 3000, 0.001
TEXT = "    return width * height + border"
REQUEST = Request(document="d", prefix="x" * 6000, suffix="y" * 2000, stop=Stop.NONE)  # a full window of text


class StampingEngine(ScriptedEngine):
    """Writes the time, at about the pace of a model."""

    async def complete(
        self, request: Request, on_stopped: Callable[[Counters], None] | None = None
    ) -> AsyncGenerator[Chunk, None]:
        for _ in range(N_CHUNKS):
            await asyncio.sleep(TOKEN_S)
            yield Chunk(text=f"{time.perf_counter()}")
        yield Chunk(text="", counters=Counters())


async def serve(path: Path) -> None:
    """Is the other process of the chunks' measurement."""
    await EngineProcess(StampingEngine([]), idle_exit_s=1.0).serve(path)


async def request_ms(engine: Engine) -> float:
    started_s = time.perf_counter()
    async for _ in engine.complete(REQUEST):
        pass
    return (time.perf_counter() - started_s) * 1000


async def chunk_ms(folder: Path) -> list[float]:
    path = folder / "stamping.sock"
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.bench.door", "--serve", path)
    while not path.exists():
        await asyncio.sleep(0.01)
    engine = ProcessEngine(EngineOptions())
    engine._link = await Link.open(path)
    late = [(time.perf_counter() - float(chunk.text)) * 1000 async for chunk in engine.complete(REQUEST) if chunk.text]
    await engine.aclose()
    await process.wait()
    return late


async def measure(n_requests: int) -> dict[str, float]:
    """The keys of door.json."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "script.json"
        script.write_text(json.dumps([{"prefix_ends": "", "text": TEXT}]), "utf-8")
        options = EngineOptions(kind=EngineKind.SCRIPTED, script=str(script), idle_exit_s=1.0)
        here, there = ScriptedEngine.from_file(str(script)), ProcessEngine(options)
        pairs = [(await request_ms(here), await request_ms(there)) for _ in range(N_WARM_UP + n_requests)]
        await there.aclose()
        overheads = [there_ms - here_ms for here_ms, there_ms in pairs[N_WARM_UP:]]
        chunks = await chunk_ms(Path(folder))
    return {
        "request_overhead_ms_p50": round(statistics.median(overheads), 4),
        "request_overhead_ms_p99": round(statistics.quantiles(overheads, n=100)[98], 4),
        "chunk_ms_p50": round(statistics.median(chunks), 4),
        "chunk_ms_p99": round(statistics.quantiles(chunks, n=100)[98], 4),
        "n": n_requests,
        "n_chunks": N_CHUNKS,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=N_REQUESTS)
    parser.add_argument("--out", type=Path, default=Path("build/bench/door.json"))
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        return asyncio.run(serve(args.serve))
    result = asyncio.run(measure(args.requests))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
