"""A day of editing from four windows, compressed: what one key leaves behind would show after thousands.

MIDFILL_DAY_KEYS sets the keys of each window; a day of typing, a key every two seconds, is 43,200.
"""

from __future__ import annotations

import asyncio
import os
import random
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from engine.api import EngineOptions, Request
from engine.client import ProcessEngine
from engine.rendezvous import rendezvous
from tests.engine.conftest import write_checkpoint
from tests.engine.residents import collect, pid_of

pytestmark = pytest.mark.usefixtures("private_directories")
N_WINDOWS, N_KEYS = 4, int(os.environ.get("MIDFILL_DAY_KEYS", "300"))
N_WARM_UP = 150
LINES = ["def area(width, height):\n", "    return width * height\n", "for x in range(10):\n", "    print(area(x, 2))\n", "\n"]


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a process holds."""

    resident_bytes: int
    n_descriptors: int
    n_threads: int

    @classmethod
    def of(cls, pid: int) -> Footprint:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        n_threads = len(list(Path(f"/proc/{pid}/task").iterdir()))
        return cls(pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir(f"/proc/{pid}/fd")), n_threads)


class Window:
    """An editor window in which somebody types, moves about, opens and closes documents, and now and then restarts."""

    def __init__(self, options: EngineOptions, seed: int) -> None:
        self._options = options
        self._rng = random.Random(seed)
        self.engine = ProcessEngine(options)
        self._open()

    async def type(self, n_keys: int) -> None:
        for _ in range(n_keys):
            await self._key()

    def _open(self) -> None:
        self._name = f"file:///{self._rng.randrange(1 << 30)}"
        self._text = "".join(self._rng.choices(LINES, k=30))

    async def _key(self) -> None:
        self._text += self._rng.choice(LINES)[: self._rng.randrange(1, 6)]
        request = Request(document=self._name, prefix=self._text[-600:], suffix="\nend\n", max_tokens=3)
        match self._rng.random():
            case x if x < 0.6:
                await collect(self.engine, request)
            case x if x < 0.85:  # the next key comes first
                async with aclosing(self.engine.complete(request)) as chunks:
                    await anext(chunks)
            case x if x < 0.9:
                await collect(self.engine, replace(request, deadline_ms=1.0))
            case x if x < 0.95:
                await self.engine.prefetch(request)
            case x if x < 0.99:
                await self.engine.forget(self._name)
                self._open()
            case _:
                await self.engine.aclose()
                self.engine = ProcessEngine(self._options)


async def test_a_day_of_editing_leaves_nothing_behind(tmp_path) -> None:
    model = write_checkpoint(tmp_path, n_layer=1, n_embd=32)
    options = EngineOptions(model=str(model), idle_exit_s=1.0, n_threads=1, budget_bytes=2 << 20)
    windows = [Window(options, seed) for seed in range(N_WINDOWS)]

    async def type_in_all(n_keys: int) -> tuple[Footprint, Footprint, int]:
        await asyncio.gather(*(window.type(n_keys) for window in windows))
        for window in windows:
            await window.engine.status()  # connected, whatever its last act was
        return Footprint.of(pid), Footprint.of(os.getpid()), len(asyncio.all_tasks())

    await windows[0].engine.status()
    pid = pid_of(rendezvous(options))
    engine_before, client_before, n_tasks_before = await type_in_all(N_WARM_UP)
    engine_after, client_after, n_tasks_after = await type_in_all(N_KEYS)
    assert pid_of(rendezvous(options)) == pid
    assert n_tasks_after == n_tasks_before
    assert (engine_after.n_descriptors, engine_after.n_threads) == (engine_before.n_descriptors, engine_before.n_threads)
    assert client_after.n_descriptors == client_before.n_descriptors
    for before, after in ((engine_before, engine_after), (client_before, client_after)):
        assert after.resident_bytes - before.resident_bytes < 8 << 20
    print(f"{N_WINDOWS} x {N_KEYS} keys: engine {engine_before} -> {engine_after}; windows {client_before} -> {client_after}")
    for window in windows:
        await window.engine.aclose()
