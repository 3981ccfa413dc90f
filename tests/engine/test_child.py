"""The engine as a child process: it is found again after any end, and it never outlives its language server."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from engine.api import EngineClosed, EngineOptions, State
from engine.client import CHILD, ProcessEngine
from tests.engine.residents import ANSWER, REQUEST, SLOW, answer, children_of, collect, has_ended, scripted


@pytest.fixture
async def engine(tmp_path) -> AsyncIterator[ProcessEngine]:
    opened = ProcessEngine(scripted(tmp_path), CHILD)
    yield opened
    await opened.aclose()


def children() -> list[int]:
    """Of this process, those that the kernel still lists as running."""
    return [pid for pid in children_of(os.getpid()) if b"engine\0child" in Path(f"/proc/{pid}/cmdline").read_bytes()]


async def test_closing_it_ends_its_process(engine) -> None:
    assert await answer(engine) == ANSWER
    (pid,) = children()
    await engine.aclose()
    await has_ended(pid)
    assert children() == []


async def test_each_server_has_its_own(engine, tmp_path) -> None:
    other = ProcessEngine(scripted(tmp_path), CHILD)
    assert await asyncio.gather(answer(engine), answer(other)) == [ANSWER, ANSWER]
    assert len(children()) == 2
    await other.aclose()
    assert await answer(engine) == ANSWER


async def test_killed_while_it_answers_it_is_started_again_by_the_next_request(engine, caplog) -> None:
    await answer(engine)
    running = asyncio.create_task(collect(engine, SLOW))
    await asyncio.sleep(0.1)
    os.kill(*children(), signal.SIGKILL)
    with pytest.raises(EngineClosed):
        await running
    assert await answer(engine) == ANSWER
    assert sum("engine down" in record.message for record in caplog.records if record.levelno >= logging.WARNING) == 1


async def test_one_that_hangs_is_killed_when_its_server_closes(engine, monkeypatch) -> None:
    monkeypatch.setattr("engine.child.PATIENCE_S", 0.1)
    await answer(engine)
    (pid,) = children()
    os.kill(pid, signal.SIGSTOP)
    await engine.aclose()
    await has_ended(pid)


async def test_an_engine_that_cannot_load_says_why_and_ends(tmp_path) -> None:
    engine = ProcessEngine(EngineOptions(model=str(tmp_path)), CHILD)
    with pytest.raises(EngineClosed, match=r"config\.json: cannot be read"):
        await answer(engine)
    status = await engine.status()
    assert status.state is State.ENGINE_DOWN
    assert "config.json: cannot be read" in status.detail
    await engine.aclose()


async def test_what_cannot_be_started_is_an_error(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "missing"))
    engine = ProcessEngine(scripted(tmp_path), CHILD)
    with pytest.raises(EngineClosed, match="cannot be started"):
        await answer(engine)
    await engine.aclose()


async def test_cancelled_requests_leave_it_free(engine) -> None:
    for _ in range(5):
        async with aclosing(engine.complete(SLOW)) as chunks:
            async for _chunk in chunks:
                break
    assert await answer(engine) == ANSWER
    assert len(children()) == 1


def test_it_ends_when_its_server_is_killed_and_prints_nothing_but_frames(tmp_path) -> None:
    command = [sys.executable, "-I", "-m", "engine", "child", msgspec.json.encode(scripted(tmp_path)).decode()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        n_bytes = int.from_bytes(process.stdout.read(4), "big")
        assert b"hello" in process.stdout.read(n_bytes)
        process.stdin.close()  # what the system does to a killed server's pipes
        assert process.wait(10) == 0
        assert process.stdout.read() == b""


def test_bytes_that_are_no_frame_end_it_without_a_traceback(tmp_path) -> None:
    command = [sys.executable, "-I", "-m", "engine", "child", msgspec.json.encode(scripted(tmp_path)).decode()]
    done = subprocess.run(command, input=b"\xff" * 64, capture_output=True, timeout=10)
    assert done.returncode == 0
    assert b"the connection is cut: a frame of" in done.stderr
    assert b"Traceback" not in done.stderr


async def test_a_request_that_is_too_large_costs_only_itself(engine) -> None:
    with pytest.raises(Exception, match="at most"):
        await answer(engine, replace(REQUEST, prefix="x" * (9 << 20)))
    assert await answer(engine) == ANSWER
