"""What a person may do to the engines that run, by hand."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from engine.api import EngineOptions, State
from engine.caretaker import clean, residents
from engine.client import ProcessEngine
from engine.rendezvous import rendezvous, runtime_directory, state_directory, take_lock
from tests.engine.residents import ANSWER, REQUEST, answer, has_ended, pid_of, scripted

pytestmark = pytest.mark.usefixtures("private_directories")


def midfill(*arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", "lsp_server", *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return " ".join(done.stdout.split())


async def test_engines_of_any_model_are_found_asked_and_stopped(tmp_path, checkpoint) -> None:
    all_options = [scripted(tmp_path), scripted(tmp_path, model=str(checkpoint))]
    engines = [ProcessEngine(options) for options in all_options]
    assert [await answer(engine) for engine in engines] == [ANSWER] * 2
    found = residents()
    assert {each.pid for each in found} == {pid_of(rendezvous(options)) for options in all_options}
    assert [(await each.status()).state for each in found] == [State.READY] * 2
    assert midfill("engine", "status").count("state ready") == 2
    assert f"the engine of process {found[0].pid} has stopped" in midfill("engine", "stop")
    for each in found:
        await has_ended(each.pid)
    assert residents() == []
    assert midfill("engine", "status") == midfill("engine", "stop") == "no engine runs"
    assert "stopped" in midfill("engine", "logs")
    while any(engine._link.is_alive for engine in engines):
        await asyncio.sleep(0.001)
    assert [await answer(engine) for engine in engines] == [ANSWER] * 2  # the next request starts it again
    for engine in engines:
        await engine.aclose()


async def test_a_model_s_engine_is_found_whatever_it_runs_on(tmp_path, checkpoint) -> None:
    engines = [ProcessEngine(EngineOptions(model=str(checkpoint), dtype="float32")), ProcessEngine(scripted(tmp_path))]
    for engine in engines:
        await answer(engine, replace(REQUEST, max_tokens=4))
    said = midfill("engine", "status", "--model", str(checkpoint))
    assert (said.count("state ready"), said.count("dtype float32")) == (1, 1)
    assert midfill("engine", "stop", "--model", str(checkpoint)).count("has stopped") == 1
    assert len(residents()) == 1
    for engine in engines:
        await engine.aclose()


async def test_an_engine_that_hangs_is_ended_by_force(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("engine.caretaker.PATIENCE_S", 0.2)
    monkeypatch.setattr("engine.caretaker.ANSWER_S", 0.1)
    engine = ProcessEngine(scripted(tmp_path))
    await answer(engine)
    (hanging,) = residents()
    os.kill(hanging.pid, signal.SIGSTOP)
    assert (await hanging.status()).state is State.ENGINE_DOWN
    hanging.stop()
    await has_ended(hanging.pid)
    await engine.aclose()


async def test_a_lock_without_an_engine_is_nobody_s(tmp_path) -> None:
    place = rendezvous(scripted(tmp_path))
    place.lock.write_text(f"{os.getpid()}")  # a dead engine's, whose number somebody else has now
    lock = take_lock(place.lock)
    assert lock is not None
    assert residents() == []
    lock.close()
    assert residents() == []


async def test_clean_removes_everything_that_was_left(tmp_path, monkeypatch) -> None:
    kernels = tmp_path / "midfill" / "native"
    kernels.mkdir(parents=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    engine = ProcessEngine(scripted(tmp_path))
    await answer(engine)
    await engine.aclose()
    (resident,) = residents()
    (log,) = state_directory().glob("engine-*.log")
    (state_directory() / "stats.json").write_text("{}")
    removed = [path for path in clean() if path.name != ".midfill"]  # beside the shipped model, where it has run in int8
    assert removed == [runtime_directory(), log, log.with_name("stats.json"), kernels.parent]
    await has_ended(resident.pid)
    assert not any(path.exists() for path in (log.parent, kernels))


def test_clean_leaves_what_somebody_else_has_put_beside_the_logs(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    settings = state_directory() / "midfill.toml"  # as on macOS
    settings.write_text("max_lines = 1\n")
    list(clean())
    assert settings.exists()


def test_start_takes_the_user_s_settings_waits_and_clean_ends_it(checkpoint, tmp_path, monkeypatch) -> None:
    (tmp_path / "midfill").mkdir()
    (tmp_path / "midfill" / "midfill.toml").write_text(f'model = "{checkpoint}"\nthreads = 1\n')
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    said = midfill("engine", "start")
    assert "state ready" in said
    assert str(checkpoint) in said.replace(" ", "")
    assert len(residents()) == 1
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert midfill("clean").count("removed") >= 2
