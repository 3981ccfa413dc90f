"""The resident process: private, one per key, and not to be brought down by what a client sends."""

from __future__ import annotations

import asyncio
import os
import random
import stat
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.api import EngineClosed, EngineError, EngineOptions, Request, State
from engine.client import ProcessEngine
from engine.link import Link
from engine.process import EngineProcess
from engine.rendezvous import rendezvous, runtime_directory, take_lock
from engine.scripted import Rule, ScriptedEngine
from engine.starter import connect_or_start
from engine.wire import MAX_FRAME_BYTES, Channel, Hello, ToServer
from tests.engine.residents import has_ended, pid_of

pytestmark = pytest.mark.usefixtures("private_directories")


@pytest.fixture
async def socket(tmp_path) -> AsyncIterator[Path]:
    """The socket of a process that serves a scripted engine in this loop."""
    path = tmp_path / "engine.sock"
    process = EngineProcess(ScriptedEngine([Rule(prefix_ends="", text="x + 1")]), idle_exit_s=60)
    task = asyncio.create_task(process.serve(path))
    while not path.exists():
        await asyncio.sleep(0.001)
    yield path
    process.stop()
    await task


async def answer_over(path: Path) -> str:
    link = await Link.open(path)
    engine = ProcessEngine(EngineOptions())
    engine._link = link
    text = "".join([chunk.text async for chunk in engine.complete(Request(document="d", prefix="", suffix=""))])
    await engine.aclose()
    return text


async def test_the_socket_is_for_its_owner_alone(socket) -> None:
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(runtime_directory().stat().st_mode) == 0o700


def test_a_runtime_directory_that_others_may_enter_is_refused() -> None:
    runtime_directory().chmod(0o755)
    with pytest.raises(Exception, match="must be a directory of mode 0700"):
        runtime_directory()


HOSTILE = [
    b"",
    b"\x00",
    b"GET / HTTP/1.1\r\n\r\n",
    struct.pack(">I", MAX_FRAME_BYTES + 1),
    struct.pack(">I", 100) + b"cut short",
    struct.pack(">I", 3) + b"\xc1\xc1\xc1",
    struct.pack(">I", 1) + b"\x80",
    struct.pack(">I", 4) + b"\x91\x91\x91\x91",
]


@pytest.mark.parametrize("sent", HOSTILE)
async def test_bytes_that_are_no_message_cost_only_their_own_connection(socket, sent) -> None:
    _, writer = await asyncio.open_unix_connection(socket)
    writer.write(sent)
    writer.close()
    assert await answer_over(socket) == "x + 1"


async def test_random_frames_after_a_greeting_cost_only_their_own_connection(socket) -> None:
    rng = random.Random(0)
    for _ in range(200):
        reader, writer = await asyncio.open_unix_connection(socket)
        channel: Channel[ToServer] = Channel(reader, writer, ToServer)
        channel.send(Hello((await channel.receive()).version))
        body = rng.randbytes(rng.randrange(60))
        writer.write(struct.pack(">I", len(body)) + body)
        writer.close()
    assert await answer_over(socket) == "x + 1"


async def test_a_client_of_another_version_is_refused(socket) -> None:
    channel: Channel[ToServer] = Channel(*await asyncio.open_unix_connection(socket), ToServer)
    channel.send(Hello("0.0.0"))
    assert isinstance(await channel.receive(), Hello)
    assert await channel.receive() is None


async def test_an_engine_of_another_version_is_refused(tmp_path) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        channel: Channel[ToServer] = Channel(reader, writer, ToServer)
        channel.send(Hello("0.0.0"))
        await channel.receive()

    async with await asyncio.start_unix_server(greet, tmp_path / "old.sock"):
        with pytest.raises(EngineClosed, match="is not of version"):
            await Link.open(tmp_path / "old.sock")


def test_only_one_holds_the_lock(tmp_path) -> None:
    first = take_lock(tmp_path / "lock")
    assert first is not None
    assert take_lock(tmp_path / "lock") is None
    first.close()
    assert take_lock(tmp_path / "lock") is not None


async def loading(link: Link) -> list[float]:
    """The shares of the weights that a server is told of until the engine is ready."""
    shares = []
    while (status := await link.status()).state is not State.READY:
        shares += [] if status.progress is None else [status.progress]
        await asyncio.sleep(0.01)
    return shares


async def test_ten_servers_at_once_start_one_engine_which_leaves_when_nobody_is_there(checkpoint) -> None:
    options = EngineOptions(model=str(checkpoint), idle_exit_s=1.0, n_threads=1)
    links = await asyncio.gather(*(connect_or_start(options) for _ in range(10)))
    place = rendezvous(options)
    pid = pid_of(place)
    assert pid is not None
    assert os.getsid(pid) == pid  # its own session: closing an editor does not end it
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (0, 1, 2)} == {"/dev/null", str(place.log)}
    for shares in await asyncio.gather(*(loading(link) for link in links)):
        assert shares  # every server that waits sees it load
        assert shares == sorted(shares)
    for link in links:
        await link.aclose()
    await has_ended(pid)
    assert not place.socket.exists()


async def test_an_engine_that_cannot_load_says_why_and_is_not_started_in_a_loop(tmp_path) -> None:
    engine = ProcessEngine(EngineOptions(model=str(tmp_path), idle_exit_s=1.0))
    while (status := await engine.status()).state == "loading":
        await asyncio.sleep(0.05)
    assert status.state == "engine_down"
    assert "config.json" in status.detail or "tokenizer.json" in status.detail
    with pytest.raises(EngineClosed, match=r"\.json"):
        _ = [chunk async for chunk in engine.complete(Request(document="d", prefix="", suffix=""))]
    await engine.aclose()


def test_a_socket_s_path_that_the_system_would_refuse_is_named(checkpoint, tmp_path, monkeypatch) -> None:
    deep = tmp_path / ("d" * 80)
    deep.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    with pytest.raises(EngineError, match="set XDG_RUNTIME_DIR to a private directory with a shorter path"):
        rendezvous(EngineOptions(model=str(checkpoint)))
