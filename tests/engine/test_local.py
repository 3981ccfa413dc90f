"""The engine's worker: who has to wait for whom, counted in layers, and what it does when memory or luck runs out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from engine.api import Chunk, EngineKind, EngineOptions, Request, State
from engine.jobs import Job
from engine.local import LocalEngine

REQUEST = Request(document="d", prefix="def f(x):\n    return ", suffix="\n", max_tokens=4)
LONG = replace(REQUEST, document="long", prefix="".join(f"x{n} = {n}\n" for n in range(100)))


@pytest.fixture
async def engine(checkpoint) -> AsyncIterator[LocalEngine]:
    """An engine that has loaded."""
    opened = LocalEngine(EngineOptions(kind=EngineKind.IN_PROCESS, model=str(checkpoint), n_threads=1))
    while (await opened.status()).state in (State.LOADING, State.WARMING):
        await asyncio.sleep(0.01)
    yield opened
    await opened.aclose()


async def answer(engine: LocalEngine, request: Request) -> list[Chunk]:
    return [chunk async for chunk in engine.complete(request)]


async def test_a_prefetch_delays_a_request_by_one_layer_at_most(engine) -> None:
    """The request comes while a layer of the prefetch runs: the next layer that runs is the request's."""
    layers: list[str] = []  # whose layer it was
    answered = asyncio.Event()
    loop = asyncio.get_running_loop()

    def before_layer(*_: object) -> None:
        running = engine._queue._running
        layers.append(running.request.document)
        if layers == ["long"] * 5:
            engine._queue.put(Job(REQUEST, lambda chunk: loop.call_soon_threadsafe(answered.set) if chunk.counters else None))

    for block in engine.runtime.model.transformer.h:
        block.register_forward_pre_hook(before_layer)
    await engine.prefetch(LONG)
    await answered.wait()
    assert layers[:6] == [*["long"] * 5, "d"]
