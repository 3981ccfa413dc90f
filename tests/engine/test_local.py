"""The engine's worker: who has to wait for whom, counted in layers, and what it does when memory or luck runs out."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine import runtime
from engine.api import Chunk, EngineClosed, EngineError, EngineKind, EngineOptions, Finish, OutOfMemory, Request, State
from engine.jobs import Job
from engine.local import MAX_CRASHES, REST_S, LocalEngine

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
        (running,) = engine._queue._running
        layers.append(running.request.document)
        if layers == ["long"] * 5:
            engine._queue.put(Job(REQUEST, lambda chunk: loop.call_soon_threadsafe(answered.set) if chunk.counters else None))

    for block in engine.runtime.model.transformer.h:
        block.register_forward_pre_hook(before_layer)
    await engine.prefetch(LONG)
    await answered.wait()
    assert layers[:6] == [*["long"] * 5, "d"]


async def test_of_a_document_that_was_closed_while_it_was_worked_on_nothing_stays(engine) -> None:
    for n in range(20):
        request = replace(REQUEST, document=f"d{n}")
        await engine.prefetch(request)
        async with aclosing(engine.complete(request)) as chunks:
            await anext(chunks)
        await engine.forget(f"d{n}")
    await asyncio.sleep(2 * REST_S)  # what would come back, comes then
    await answer(engine, replace(REQUEST, document="last"))
    assert list(engine.runtime.decoder.pool._documents) == ["last"]


class Failing:
    """Makes chosen forward passes of an engine fail, counted from now on."""

    def __init__(self, engine: LocalEngine, error: BaseException, passes: set[int]) -> None:
        self._n_passes = 0
        self._error = error
        self._passes = passes
        engine.runtime.model.transformer.h[0].register_forward_pre_hook(self._count)

    def _count(self, *_: object) -> None:
        self._n_passes += 1
        if self._n_passes in self._passes:
            raise self._error


ALLOCATION_FAILURES = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried to allocate 2"),
]


@pytest.mark.parametrize("error", ALLOCATION_FAILURES, ids=lambda error: type(error).__name__)
async def test_out_of_memory_costs_the_caches_and_not_the_answer(engine, error) -> None:
    before = [chunk.text for chunk in await answer(engine, REQUEST)]
    await engine.forget(REQUEST.document)
    await answer(engine, LONG)
    Failing(engine, error, {1})
    assert [chunk.text for chunk in await answer(engine, REQUEST)] == before
    assert engine.runtime.decoder.pool.n_uncached("long", (0,)) == 1  # evicted


async def test_out_of_memory_twice_is_an_error_that_status_explains_until_an_answer_comes(engine) -> None:
    Failing(engine, MemoryError(), {1, 2})
    with pytest.raises(OutOfMemory, match="take a smaller model or set a smaller budget"):
        await answer(engine, REQUEST)
    assert "out of memory" in (await engine.status()).detail
    assert (await answer(engine, REQUEST))[-1].counters.finish is not Finish.ERROR
    assert "out of memory" not in (await engine.status()).detail


async def test_text_that_went_out_is_not_repeated_after_out_of_memory(engine) -> None:
    Failing(engine, MemoryError(), {3})
    chunks = []
    with pytest.raises(OutOfMemory):
        _ = [chunks.append(chunk) async for chunk in engine.complete(REQUEST)]
    assert 1 <= len(chunks) <= 3
    assert (await answer(engine, REQUEST))[-1].counters.finish is not Finish.ERROR


async def test_one_failure_is_one_request_s_and_several_in_a_row_are_the_engine_s(engine) -> None:
    for n in range(MAX_CRASHES):
        assert (await engine.status()).state is not State.ENGINE_DOWN
        Failing(engine, RuntimeError(f"device lost {n}"), {1})
        with pytest.raises(EngineError, match="device lost"):
            await answer(engine, REQUEST)
    while (status := await engine.status()).state is not State.ENGINE_DOWN:
        await asyncio.sleep(0.01)
    assert "3 requests in a row failed" in status.detail
    with pytest.raises(EngineClosed, match="3 requests in a row"):
        await answer(engine, REQUEST)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_worker_that_dies_takes_no_request_with_it_unanswered(engine) -> None:
    Failing(engine, SystemExit(), {1})
    both = await asyncio.gather(answer(engine, REQUEST), answer(engine, LONG), return_exceptions=True)
    assert [type(each) for each in both] == [EngineClosed] * 2
    assert (await engine.status()).state is State.ENGINE_DOWN


def truncated(folder: Path) -> None:
    os.truncate(folder / "model.safetensors", 100_000)


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def damaged(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\xff" * 1000)


def no_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")


@pytest.mark.parametrize("damage", [truncated, without_weights, damaged, no_config, no_tokenizer])
async def test_a_checkpoint_that_cannot_be_read_is_named_and_ends_the_engine(checkpoint, tmp_path, damage) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "model")
    damage(folder)
    engine = LocalEngine(EngineOptions(kind=EngineKind.IN_PROCESS, model=str(folder), n_threads=1))
    with pytest.raises(EngineClosed, match=r"config|tokenizer|weights|safetensors"):
        await answer(engine, REQUEST)
    assert (await engine.status()).state is State.ENGINE_DOWN
    await engine.aclose()


def test_where_the_system_does_not_tell_its_free_memory_the_engine_has_a_budget_all_the_same(monkeypatch) -> None:
    def unknown(name: str) -> int:
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(os, "sysconf", unknown)
    assert runtime._free_bytes(torch.device("cpu")) == runtime.ASSUMED_FREE_BYTES
    monkeypatch.delattr(os, "sysconf")
    assert runtime._free_bytes(torch.device("cpu")) == runtime.ASSUMED_FREE_BYTES
