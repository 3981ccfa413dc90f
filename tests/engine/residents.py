"""Real engine processes for tests: options that start quick ones, and what the kernel knows of them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

from engine.api import Chunk, Engine, EngineKind, EngineOptions, Request
from engine.rendezvous import Rendezvous

RULES = [
    {"prefix_ends": "slow", "text": "x " * 500, "token_ms": 20},
    {"prefix_ends": "long", "text": "x " * 500},
    {"prefix_ends": "", "text": "x + 1"},
]
REQUEST = Request(document="d", prefix="y = ", suffix="\n", max_tokens=1000)
SLOW = replace(REQUEST, prefix="slow")
ANSWER = "x + 1"


def scripted(folder: Path, **changes: object) -> EngineOptions:
    """A resident process without a model, which is there at once."""
    script = folder / "script.json"
    script.write_text(json.dumps(RULES), "utf-8")
    return EngineOptions(kind=EngineKind.SCRIPTED, script=str(script), **{"idle_exit_s": 0.5, **changes})


async def collect(engine: Engine, request: Request = REQUEST) -> list[Chunk]:
    return [chunk async for chunk in engine.complete(request)]


async def answer(engine: Engine, request: Request = REQUEST) -> str:
    return "".join(chunk.text for chunk in await collect(engine, request))


def pid_of(place: Rendezvous) -> int | None:
    """The process that holds the engine's lock, as the kernel lists it."""
    inode = place.lock.stat().st_ino
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if fields[1] == "FLOCK" and fields[5].endswith(f":{inode}"):
            return int(fields[4])
    return None


def children_of(pid: int) -> list[int]:
    """The processes that a process has started, and that run or were not looked at since they ended."""
    return [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]


async def has_ended(pid: int) -> None:
    """Waits until the process runs no more; a zombie is one whose parent, this test, has not looked yet."""
    try:
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            await asyncio.sleep(0.01)
    except FileNotFoundError:
        return


async def kill(place: Rendezvous, number: int = signal.SIGKILL) -> None:
    """Kills the engine, and waits until it has gone."""
    pid = pid_of(place)
    assert pid is not None
    os.kill(pid, number)
    await has_ended(pid)
