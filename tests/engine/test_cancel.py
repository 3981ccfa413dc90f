"""Who goes away or is overtaken stops the model at its next layer, and every row that was computed is accounted for."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
import torch

from engine import local
from engine.api import EngineClosed, EngineKind, EngineOptions, Finish, Request, State, Stop
from engine.local import LocalEngine

REQUEST = Request(document="d", prefix="def f(x):\n    return x + y", suffix="\n", max_tokens=300, stop=Stop.NONE)


class Rows:
    """Counts the rows that pass through a model's first layer, and the layers that were run."""

    def __init__(self, engine: LocalEngine) -> None:
        assert engine.runtime is not None
        self.n_rows = self.n_layers = 0
        layers = engine.runtime.model.transformer.h
        layers[0].register_forward_pre_hook(self._note_rows)
        for layer in layers:
            layer.register_forward_pre_hook(self._note_layer)

    def _note_rows(self, module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        self.n_rows += inputs[0].shape[0] * inputs[0].shape[1]

    def _note_layer(self, *_: object) -> None:
        self.n_layers += 1


@pytest.fixture
async def engine(checkpoint, monkeypatch):
    monkeypatch.setattr(local, "REST_S", 1e6)  # no background work: every row belongs to a request
    opened = LocalEngine(EngineOptions(kind=EngineKind.IN_PROCESS, model=str(checkpoint), n_threads=1))
    while (await opened.status()).state in (State.LOADING, State.WARMING):
        await asyncio.sleep(0.01)
    yield opened
    await opened.aclose()


@pytest.mark.parametrize("n_chunks", [1, 3, 10])
async def test_closing_the_stream_stops_the_model_and_every_row_is_accounted_for(engine, n_chunks) -> None:
    rows = Rows(engine)
    async with aclosing(engine.complete(REQUEST)) as chunks:
        for _ in range(n_chunks):
            await anext(chunks)
    while (last := (await engine.status()).last) is None or last.finish is not Finish.CANCELLED:
        await asyncio.sleep(0)
    assert rows.n_rows == last.prefilled + last.decoded + last.wasted
    n_layers = rows.n_layers
    await asyncio.sleep(0.05)
    assert rows.n_layers == n_layers


async def test_a_newer_request_for_a_document_ends_the_older_one(engine) -> None:
    older = asyncio.create_task(_finish_of(engine, REQUEST))
    await asyncio.sleep(0)
    newer = asyncio.create_task(_finish_of(engine, REQUEST))
    assert await older is Finish.CANCELLED
    newer.cancel()


async def test_the_windows_size_is_known_while_the_weights_still_load(checkpoint) -> None:
    engine = LocalEngine(EngineOptions(kind=EngineKind.IN_PROCESS, model=str(checkpoint), n_threads=1))
    while not (status := await engine.status()).max_chars:
        await asyncio.sleep(0)
    assert status.state is State.LOADING
    await engine.aclose()


async def test_a_model_that_cannot_be_loaded_is_a_status_and_an_error(tmp_path) -> None:
    engine = LocalEngine(EngineOptions(kind=EngineKind.IN_PROCESS, model=str(tmp_path)))
    while (status := await engine.status()).state is State.LOADING:
        await asyncio.sleep(0.01)
    assert (status.state, "config.json" in status.detail) == (State.ENGINE_DOWN, True)
    with pytest.raises(EngineClosed, match=r"config\.json"):
        await _finish_of(engine, REQUEST)


async def _finish_of(engine: LocalEngine, request: Request) -> Finish:
    *_, last = [chunk async for chunk in engine.complete(request)]
    return last.counters.finish
