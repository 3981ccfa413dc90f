"""What the resident engine costs while nobody asks it: a share of one core, for `make bench-cpu`."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from pathlib import Path

from engine.api import EngineOptions, Request, State, open_engine
from engine.rendezvous import rendezvous
from tests.engine.residents import pid_of

REST_S, WATCH_S = 3.0, 5.0  # background work after a request ends well before


async def idle_cpu_percent() -> float:
    """Starts an engine of its own on the shipped model, asks it once, and watches it doing nothing."""
    options = EngineOptions()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_RUNTIME_DIR"] = folder  # not the user's, which may be at work
        engine = open_engine(options)
        while (await engine.status()).state in (State.LOADING, State.WARMING):
            await asyncio.sleep(0.1)
        async for _ in engine.complete(Request(document="d", prefix="def area(width, height):\n    return ", suffix="\n")):
            pass
        pid = pid_of(rendezvous(options))
        assert pid is not None
        await asyncio.sleep(REST_S)
        before_ns = _ran_ns(pid)
        await asyncio.sleep(WATCH_S)
        ran_ns = _ran_ns(pid) - before_ns
        await engine.aclose()
        os.kill(pid, signal.SIGTERM)
    return round(ran_ns / WATCH_S / 1e7, 4)


def _ran_ns(pid: int) -> int:
    return sum(int(each.read_text("ascii").split()[0]) for each in Path(f"/proc/{pid}/task").glob("*/schedstat"))
