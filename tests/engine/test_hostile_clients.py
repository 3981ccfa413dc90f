"""What clients may do to the engine's process, on purpose or not: it costs them their own connection, and nobody else."""

from __future__ import annotations

import asyncio
import math
import random
import re
import socket
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from engine import process as engine_process
from engine.api import EngineError, Finish, Request
from engine.link import Link
from engine.process import MAX_COMPLETIONS, Connection, EngineProcess
from engine.rendezvous import package_version
from engine.scripted import Rule, ScriptedEngine
from engine.wire import (
    MAX_FRAME_BYTES,
    Answer,
    AskStatus,
    Cancel,
    Channel,
    Complete,
    Farewell,
    ForgetDocument,
    Hello,
    Prefetch,
    ToEngine,
    ToServer,
    WireError,
)
from tests.engine.residents import ANSWER, REQUEST

ROOT = Path(__file__).parents[2]
N_FUZZED = 100_000
MESSAGES = [
    Hello("0"),
    Complete(1, REQUEST),
    Cancel(1),
    Prefetch(replace(REQUEST, deadline_ms=5.0)),
    ForgetDocument("d"),
    AskStatus(2),
]


def engine() -> ScriptedEngine:
    return ScriptedEngine([Rule(prefix_ends="long", text="x " * 500), Rule(prefix_ends="", text=ANSWER)])


@asynccontextmanager
async def serving(path: Path) -> AsyncIterator[EngineProcess]:
    process = EngineProcess(engine(), idle_exit_s=60)
    task = asyncio.create_task(process.serve(path))
    while not path.exists():
        await asyncio.sleep(0.001)
    yield process
    process.stop()
    await task


@pytest.fixture
async def process(tmp_path) -> AsyncIterator[EngineProcess]:
    """A process that serves a scripted engine in this loop, at `tmp_path / "engine.sock"`."""
    async with serving(tmp_path / "engine.sock") as started:
        yield started


async def greeted(path: Path) -> tuple[Channel[ToServer], asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_unix_connection(path)
    channel: Channel[ToServer] = Channel(reader, writer, ToServer)
    channel.send(Hello(package_version()))
    assert isinstance(await channel.receive(), Hello)
    return channel, reader, writer


async def is_answered(path: Path) -> bool:
    channel, _, writer = await greeted(path)
    channel.send(Complete(7, REQUEST))
    text = ""
    while isinstance(message := await channel.receive(), Answer) and message.chunk.counters is None:
        text += message.chunk.text
    writer.close()
    return text == ANSWER


async def closed_within(seconds: float, process: EngineProcess) -> None:
    async with asyncio.timeout(seconds):
        while process._connections:
            await asyncio.sleep(0.001)


def mutated(rng: random.Random, body: bytes) -> bytes:
    """One of: noise, a message with bytes changed, cut short, or with another's end."""
    match rng.randrange(4):
        case 0:
            return rng.randbytes(rng.randrange(80))
        case 1:
            changed = bytearray(body)
            for _ in range(rng.randint(1, 3)):
                changed[rng.randrange(len(changed))] = rng.randrange(256)
            return bytes(changed)
        case 2:
            return body[: rng.randrange(len(body))]
        case _:
            other = msgspec.msgpack.encode(rng.choice(MESSAGES))
            return body[: rng.randrange(len(body))] + other[rng.randrange(len(other)) :]


async def test_a_hundred_thousand_fuzzed_frames_are_messages_or_wire_errors_and_nothing_else() -> None:
    """Each is decoded as on a connection; those that make a message are handled too."""
    rng = random.Random(5)
    bodies = [msgspec.msgpack.encode(message) for message in MESSAGES]
    ours, peers = socket.socketpair()
    _, writer = await asyncio.open_unix_connection(sock=ours)
    reader, peer = await asyncio.open_unix_connection(sock=peers)
    drain = asyncio.create_task(reader.read())
    frames, n_handled = asyncio.StreamReader(), 0
    connection = Connection("fuzz", engine(), Channel(frames, writer, ToEngine))
    for n in range(N_FUZZED):
        body = mutated(rng, rng.choice(bodies))
        frames.feed_data(struct.pack(">I", len(body)) + body)
        try:
            message = await connection._channel.receive()
            assert message is not None
            await connection._handle(message)
            n_handled += 1
        except WireError:
            pass
        if n % 100 == 0:
            await asyncio.sleep(0)
    assert N_FUZZED / 100 < n_handled < N_FUZZED / 2
    writer.close()
    assert ANSWER.encode()[:1] in await drain
    peer.close()


async def test_a_thousand_fuzzed_connections_cost_nobody_else_anything(process, tmp_path) -> None:
    rng = random.Random(6)
    bodies = [msgspec.msgpack.encode(message) for message in MESSAGES]
    for _ in range(1000):
        _, _, writer = await greeted(tmp_path / "engine.sock")
        for _ in range(3):
            body = mutated(rng, rng.choice(bodies))
            writer.write(struct.pack(">I", len(body)) + body)
        writer.close()
    assert await is_answered(tmp_path / "engine.sock")
    await closed_within(10, process)


NO_REQUESTS = [{"deadline_ms": math.nan}, {"temperature": math.nan}, {"temperature": math.inf}, {"n": 0}, {"max_tokens": -1}]


@pytest.mark.parametrize("changes", NO_REQUESTS, ids=str)
async def test_numbers_that_make_no_request_are_no_message(process, tmp_path, changes) -> None:
    channel, _, writer = await greeted(tmp_path / "engine.sock")
    fields = msgspec.to_builtins(REQUEST) | changes
    body = msgspec.msgpack.encode({"type": "complete", "id": 1, "request": fields})
    writer.write(struct.pack(">I", len(body)) + body)
    assert await channel.receive() is None
    assert await is_answered(tmp_path / "engine.sock")


async def test_who_does_not_read_is_cut_off_before_it_costs_memory(process, tmp_path) -> None:
    channel, _, writer = await greeted(tmp_path / "engine.sock")
    writer.transport.pause_reading()
    most = 0
    while process._connections:
        for _ in range(500):
            channel.send(AskStatus(1))
        with suppress(ConnectionError):
            await writer.drain()
        waiting = [each._writer.transport.get_write_buffer_size() for each in process._connections.values()]
        most = max(most, *waiting, 0)
    assert MAX_FRAME_BYTES / 2 < most < MAX_FRAME_BYTES * 1.1
    assert await is_answered(tmp_path / "engine.sock")
    writer.transport.abort()


async def test_who_does_not_read_its_completions_does_not_slow_the_others_or_the_end(tmp_path) -> None:
    async with serving(tmp_path / "engine.sock") as process:
        channel, _, writer = await greeted(tmp_path / "engine.sock")
        writer.transport.pause_reading()
        for n in range(MAX_COMPLETIONS):
            channel.send(Complete(n, replace(REQUEST, prefix="long", document=f"{n}")))
        assert await is_answered(tmp_path / "engine.sock")
        assert len(process._connections) >= 1
    writer.transport.abort()


async def test_more_completions_at_once_than_any_editor_asks_for_are_refused(process, tmp_path) -> None:
    channel, _, _ = await greeted(tmp_path / "engine.sock")
    for n in range(MAX_COMPLETIONS + 1):
        channel.send(Complete(n, replace(REQUEST, prefix="long", document=f"{n}")))
    while await channel.receive() is not None:
        pass
    assert await is_answered(tmp_path / "engine.sock")


async def test_an_id_used_twice_is_refused(process, tmp_path) -> None:
    channel, _, _ = await greeted(tmp_path / "engine.sock")
    for _ in range(2):
        channel.send(Complete(1, replace(REQUEST, prefix="long")))
    while await channel.receive() is not None:
        pass
    assert await is_answered(tmp_path / "engine.sock")


async def test_who_never_greets_does_not_keep_the_engine_from_its_idle_exit(process, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(engine_process, "GREETING_S", 0.05)
    reader, _ = await asyncio.open_unix_connection(tmp_path / "engine.sock")
    await reader.read()
    await closed_within(1, process)


async def test_a_request_over_the_frame_s_limit_is_refused_before_it_is_sent(process, tmp_path) -> None:
    link = await Link.open(tmp_path / "engine.sock")
    with pytest.raises(EngineError, match="ask with less text"):
        link.send(Complete(1, Request(document="d", prefix="x" * MAX_FRAME_BYTES, suffix="")))
    assert (await link.status()).state == "ready"
    await link.aclose()


async def test_the_end_has_a_reason_that_every_client_hears(tmp_path) -> None:
    async with serving(tmp_path / "engine.sock") as process:
        channel, _, _ = await greeted(tmp_path / "engine.sock")
        link, reasons = await Link.open(tmp_path / "engine.sock"), []
        link.on_lost = reasons.append
        process.stop("the device is lost")
        assert await channel.receive() == Farewell("the device is lost")
    while link.is_alive:
        await asyncio.sleep(0.001)
    assert reasons == ["the device is lost"]


async def test_a_process_ends_with_its_engine(tmp_path) -> None:
    served = engine()
    task = asyncio.create_task(EngineProcess(served, idle_exit_s=60).serve(tmp_path / "engine.sock"))
    await served.aclose()
    await task
    assert not (tmp_path / "engine.sock").exists()


async def test_a_process_whose_socket_was_taken_over_ends_and_leaves_the_new_one_alone(tmp_path) -> None:
    path = tmp_path / "engine.sock"
    old = asyncio.create_task(EngineProcess(engine(), idle_exit_s=60).serve(path))
    while not path.exists():
        await asyncio.sleep(0.001)
    async with serving(path):
        await old
        assert await is_answered(path)


async def test_a_clock_that_jumps_moves_no_deadline_and_no_idle_exit(tmp_path, monkeypatch) -> None:
    path = tmp_path / "engine.sock"
    task = asyncio.create_task(EngineProcess(engine(), idle_exit_s=60).serve(path))
    while not path.exists():
        await asyncio.sleep(0.001)
    now_s = time.time()
    for days in (-1000, 1000):
        monkeypatch.setattr(time, "time", lambda days=days: now_s + days * 86_400)
        monkeypatch.setattr(time, "time_ns", lambda days=days: int((now_s + days * 86_400) * 1e9))
        channel, _, writer = await greeted(path)
        channel.send(Complete(1, replace(REQUEST, deadline_ms=60_000)))
        while isinstance(message := await channel.receive(), Answer) and message.chunk.counters is None:
            pass
        assert message.chunk.counters.finish is Finish.END_OF_TEXT
        writer.close()
        await asyncio.sleep(0.01)
        assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("package", ["engine", "lsp_server"])
def test_nothing_reads_the_clock_on_the_wall(package) -> None:
    """What it is read for would jump with it. Logging may stamp its lines, and the counters say since which day they count.

    Training is no part of a session.
    """
    sources = [path for path in (ROOT / package).rglob("*.py") if "training" not in path.parts and path.name != "stats.py"]
    wall = re.compile(r"\btime\.time(_ns)?\(|\bdatetime\b|\bfrom time import\b")
    assert sources
    assert [path.name for path in sources if wall.search(path.read_text("utf-8"))] == []
