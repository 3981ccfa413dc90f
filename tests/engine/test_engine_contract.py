"""What every implementation of the `Engine` protocol promises, run on each of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

import pytest

from engine.api import (
    Chunk,
    Counters,
    Engine,
    EngineClosed,
    EngineKind,
    EngineOptions,
    Finish,
    Request,
    State,
    Stop,
    open_engine,
)

REQUEST = Request(document="d", prefix="def f(x):\n    return ", suffix="\n\nprint(f(1))\n", max_tokens=8, stop=Stop.NONE)
LONG = replace(REQUEST, max_tokens=400, document="long")


@pytest.fixture(params=list(EngineKind))
async def engine(request, checkpoint, tmp_path, private_directories) -> AsyncIterator[Engine]:
    """Each engine in turn, on a random checkpoint; the scripted one on a script."""
    script = tmp_path / "script.json"
    script.write_text(json.dumps([{"prefix_ends": "", "text": "x + 1 and more " * 60}]), "utf-8")
    options = EngineOptions(kind=request.param, model=str(checkpoint), script=str(script), n_threads=1, idle_exit_s=1.0)
    opened = open_engine(options)
    yield opened
    await opened.aclose()


async def collect(engine: Engine, request: Request) -> list[Chunk]:
    return [chunk async for chunk in engine.complete(request)]


async def test_the_last_chunk_alone_carries_the_counters(engine) -> None:
    chunks = await collect(engine, REQUEST)
    assert [chunk.counters is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].counters.finish in (Finish.MAX_TOKENS, Finish.END_OF_TEXT)
    assert sum(len(chunk.logprobs) for chunk in chunks) <= REQUEST.max_tokens


async def test_the_same_request_is_answered_alike_twice(engine) -> None:
    first, second = await collect(engine, REQUEST), await collect(engine, REQUEST)
    assert [chunk.text for chunk in first] == [chunk.text for chunk in second]


async def test_status_tells_what_runs_once_something_was_answered(engine) -> None:
    await collect(engine, REQUEST)
    status = await engine.status()
    assert status.state in (State.READY, State.BUSY)
    assert status.max_chars > 0
    assert status.last.finish in (Finish.MAX_TOKENS, Finish.END_OF_TEXT)


async def test_closing_the_stream_cancels_and_the_next_request_is_answered(engine) -> None:
    async with aclosing(engine.complete(LONG)) as chunks:
        async for _ in chunks:
            break
    assert (await collect(engine, REQUEST))[-1].counters.finish is not Finish.CANCELLED
    assert (await collect(engine, REQUEST))[-1].counters.queue_ms < 1000


@pytest.mark.parametrize("n_read", [0, 1, 5])
async def test_what_a_stopped_completion_cost_is_told_once(engine, n_read) -> None:
    await collect(engine, REQUEST)
    told: asyncio.Queue[Counters] = asyncio.Queue()
    async with aclosing(engine.complete(LONG, told.put_nowait)) as chunks:
        if n_read:
            for _ in range(n_read):
                await anext(chunks)
        else:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await anext(chunks)
    counters = await asyncio.wait_for(told.get(), 10)
    assert counters.finish is Finish.CANCELLED
    assert counters.decoded >= n_read - 1  # a token that is not fed back is not counted
    await collect(engine, REQUEST)
    assert told.empty()


async def test_a_completion_read_to_its_end_has_told_its_cost_already(engine) -> None:
    told: list[Counters] = []
    async for _ in engine.complete(REQUEST, told.append):
        pass
    await collect(engine, REQUEST)
    assert told == []


async def test_cancelling_the_reader_cancels(engine) -> None:
    await collect(engine, REQUEST)
    task = asyncio.create_task(collect(engine, LONG))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await collect(engine, REQUEST))[-1].counters.finish is not Finish.CANCELLED


async def test_a_deadline_ends_the_answer_also_while_the_model_loads(engine) -> None:
    chunks = await collect(engine, replace(LONG, deadline_ms=0.0))
    assert chunks[-1].counters.finish is Finish.DEADLINE


async def test_requests_of_several_documents_are_all_answered(engine) -> None:
    requests = [replace(REQUEST, document=f"d{n}", prefix=f"x{n} = ") for n in range(5)]
    answers = await asyncio.gather(*(collect(engine, request) for request in requests))
    assert all(answer[-1].counters.finish is not Finish.CANCELLED for answer in answers)


async def test_prefetch_and_forget_answer_nothing_and_harm_nothing(engine) -> None:
    await engine.prefetch(REQUEST)
    await engine.forget("d")
    await engine.forget("never seen")
    assert (await collect(engine, REQUEST))[-1].counters is not None


async def test_text_that_no_encoder_takes_is_answered(engine) -> None:
    chunks = await collect(engine, replace(REQUEST, prefix="a\ud800\x00\r\x0c\u2028<fim_prefix>", suffix="\udfff"))
    assert chunks[-1].counters is not None


async def test_a_closed_engine_says_so(engine) -> None:
    await engine.aclose()
    with pytest.raises(EngineClosed):
        await collect(engine, REQUEST)
    assert (await engine.status()).state is State.ENGINE_DOWN


def test_every_implementation_is_an_engine(checkpoint, tmp_path) -> None:
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        Request(document="d", prefix="", suffix="", max_tokens=0)
    assert Request(document="d", prefix="a\ud800", suffix="").prefix == "a\ufffd"
