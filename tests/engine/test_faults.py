"""What may happen to the engine's process, done to a real one: the next request is answered all the same."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from engine import link
from engine.__main__ import LOG_BYTES
from engine.api import Engine, EngineClosed, EngineError, EngineOptions, OutOfMemory, Request, State, Stop
from engine.client import MAX_FAILURES, ProcessEngine
from engine.rendezvous import rendezvous, runtime_directory, state_directory, take_lock
from tests.engine.conftest import write_checkpoint
from tests.engine.residents import ANSWER, SLOW, answer, collect, has_ended, kill, pid_of, scripted

pytestmark = pytest.mark.usefixtures("private_directories")


async def busy(engine: Engine) -> None:
    while (await engine.status()).state is not State.BUSY:
        await asyncio.sleep(0.005)


async def test_killed_while_prefilling_and_while_decoding_it_answers_the_next_request(tmp_path) -> None:
    model = write_checkpoint(tmp_path, n_layer=16, n_embd=256, n_positions=4096)
    options = EngineOptions(model=str(model), idle_exit_s=0.5, n_threads=1)
    engine, place = ProcessEngine(options), rendezvous(options)
    short = Request(document="d", prefix="x = ", suffix="\n", max_tokens=4)
    before = await answer(engine, short)

    prefilling = asyncio.create_task(collect(engine, replace(short, prefix="".join(f"x{n} = {n}\n" for n in range(600)))))
    await busy(engine)
    await kill(place)
    with pytest.raises(EngineClosed, match="connection to the engine was lost"):
        await prefilling

    decoding = engine.complete(replace(short, max_tokens=400, stop=Stop.NONE))
    await anext(decoding)
    await kill(place)
    with pytest.raises(EngineClosed, match="connection to the engine was lost"):
        _ = [chunk async for chunk in decoding]
    engine._not_before_s = 0.0  # the pause has passed
    assert await answer(engine, short) == before
    await engine.aclose()


async def test_killed_twenty_times_in_a_row_it_costs_a_log_line_each(tmp_path, caplog) -> None:
    options = scripted(tmp_path)
    engine, place = ProcessEngine(options), rendezvous(options)
    for _ in range(20):
        assert await answer(engine) == ANSWER
        await kill(place)
        while engine._link.is_alive:
            await asyncio.sleep(0.001)
    assert await answer(engine) == ANSWER
    assert len([each for each in caplog.records if each.levelno >= logging.WARNING]) == 20
    await engine.aclose()


async def test_an_engine_that_keeps_failing_is_started_ever_more_rarely_and_then_no_more(tmp_path, caplog) -> None:
    """The clock of the pauses is turned by hand."""
    options = scripted(tmp_path)
    Path(options.script).write_text("no JSON")
    engine, pauses_s = ProcessEngine(options), []
    for n_failures in range(1, MAX_FAILURES + 1):
        assert (await engine.status()).state is State.ENGINE_DOWN
        assert engine._n_failures == n_failures
        pauses_s.append(round(engine._not_before_s - time.monotonic()))
        if n_failures > 1:
            assert "start" in (await engine.status()).detail  # says when, and starts nothing
            assert engine._n_failures == n_failures
        engine._not_before_s = 0.0
    assert len(caplog.records) == MAX_FAILURES
    assert pauses_s == [0, 1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert "midfill engine start" in (await engine.status()).detail
    Path(options.script).write_text("[]")
    other = ProcessEngine(options)  # another window, or a person, starts it: it is met
    await collect(other)
    await collect(engine)
    assert engine._n_failures == 0
    await engine.aclose()
    await other.aclose()


async def test_a_crash_leaves_its_last_words_in_the_log(tmp_path) -> None:
    options = scripted(tmp_path)
    engine, place = ProcessEngine(options), rendezvous(options)
    assert await answer(engine) == ANSWER
    await kill(place, signal.SIGSEGV)
    assert "Fatal Python error: Segmentation fault" in place.log.read_text()
    await engine.aclose()


async def test_a_process_that_hangs_is_called_down_and_is_met_again_when_it_goes_on(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(link, "STATUS_TIMEOUT_S", 0.2)
    options = scripted(tmp_path)
    engine = ProcessEngine(options)
    await answer(engine)
    pid = pid_of(rendezvous(options))
    os.kill(pid, signal.SIGSTOP)
    status = await engine.status()
    assert status.state is State.ENGINE_DOWN
    assert "midfill engine stop" in status.detail
    os.kill(pid, signal.SIGCONT)
    assert await answer(engine) == ANSWER
    assert (await engine.status()).state is not State.ENGINE_DOWN
    await engine.aclose()


def test_the_log_is_rotated(tmp_path) -> None:
    place = rendezvous(scripted(tmp_path))
    code = "import logging, sys; from engine.__main__ import *; from engine.__main__ import _log_to\n"
    code += "_log_to(rendezvous(msgspec.json.decode(sys.argv[1], type=EngineOptions)))\n"
    code += "for _ in range(3000): logging.info('x' * 999)"
    subprocess.run([sys.executable, "-c", code, msgspec.json.encode(scripted(tmp_path)).decode()], check=True)
    sizes = {path.name: path.stat().st_size for path in state_directory().iterdir()}
    assert set(sizes) == {place.log.name, f"{place.log.name}.1"}
    assert all(0 < size <= LOG_BYTES for size in sizes.values())


async def test_requests_in_flight_end_once_and_the_connection_s_loss_is_one_log_line(tmp_path, caplog) -> None:
    options = scripted(tmp_path)
    engine = ProcessEngine(options)
    tasks = [asyncio.create_task(collect(engine, replace(SLOW, document=f"d{n}"))) for n in range(5)]
    await busy(engine)
    await kill(rendezvous(options))
    assert [type(result) for result in await asyncio.gather(*tasks, return_exceptions=True)] == [EngineClosed] * 5
    assert len([each for each in caplog.records if each.levelno >= logging.WARNING]) == 1
    await engine.aclose()


async def test_requests_whose_deadline_comes_during_a_start_start_no_second_process(tmp_path, caplog) -> None:
    caplog.set_level(logging.INFO, "engine.starter")
    engine = ProcessEngine(scripted(tmp_path))
    for _ in range(5):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(answer(engine), 0.01)
    assert await answer(engine) == ANSWER
    assert len([each for each in caplog.records if "starting one" in each.message]) == 1
    await engine.aclose()


async def test_a_removed_socket_comes_back_and_nobody_is_disturbed(tmp_path) -> None:
    options = scripted(tmp_path)
    old, place = ProcessEngine(options), rendezvous(options)
    assert await answer(old) == ANSWER
    pid = pid_of(place)
    place.socket.unlink()
    new = ProcessEngine(options)
    assert await answer(new) == await answer(old) == ANSWER
    assert pid_of(place) == pid
    await old.aclose()
    await new.aclose()
    await has_ended(pid)
    assert not place.socket.exists()


async def test_an_engine_whose_runtime_directory_was_removed_makes_way(tmp_path) -> None:
    options = scripted(tmp_path, idle_exit_s=60.0)
    engine, place = ProcessEngine(options), rendezvous(options)
    assert await answer(engine) == ANSWER
    pid = pid_of(place)
    for path in (place.socket, place.lock):
        path.unlink()
    place.socket.parent.rmdir()
    await has_ended(pid)
    assert await answer(engine) == ANSWER
    await kill(place)
    await engine.aclose()


async def test_a_stale_socket_is_replaced(tmp_path) -> None:
    options = scripted(tmp_path)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(rendezvous(options).socket))
    engine = ProcessEngine(options)
    assert await answer(engine) == ANSWER
    await engine.aclose()


async def test_a_runtime_directory_open_to_others_is_refused_until_it_is_mended(tmp_path) -> None:
    engine, directory = ProcessEngine(scripted(tmp_path)), runtime_directory()
    directory.chmod(0o755)
    with pytest.raises(EngineError, match="must be a directory of mode 0700"):
        await answer(engine)
    assert (await engine.status()).state is State.ENGINE_DOWN
    directory.chmod(0o700)
    engine._not_before_s = 0.0
    assert await answer(engine) == ANSWER
    await engine.aclose()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory away")
async def test_a_runtime_directory_of_another_user_is_refused(tmp_path) -> None:
    directory = runtime_directory()
    os.chown(directory, 65534, 65534)
    engine = ProcessEngine(scripted(tmp_path))
    with pytest.raises(EngineError, match="belongs to user 65534"):
        await answer(engine)
    await engine.aclose()


async def test_a_failing_allocation_is_an_error_and_the_process_lives_on(tmp_path) -> None:
    """The kernel refuses the process any more address space."""
    model = write_checkpoint(tmp_path, n_layer=16, n_embd=256, n_positions=8192)
    # In float32: loading int8 weights leaves freed memory behind, of which the allocation could be served.
    options = EngineOptions(model=str(model), dtype="float32", idle_exit_s=0.5, n_threads=1, budget_bytes=1 << 30)
    engine, place = ProcessEngine(options), rendezvous(options)
    short = Request(document="d", prefix="x = ", suffix="\n", max_tokens=4)
    before, pid = await answer(engine, short), pid_of(place)
    (n_pages, *_) = Path(f"/proc/{pid}/statm").read_text().split()
    limits = resource.prlimit(pid, resource.RLIMIT_AS)
    resource.prlimit(pid, resource.RLIMIT_AS, (int(n_pages) * resource.getpagesize(), limits[1]))
    with pytest.raises(OutOfMemory, match="smaller"):
        await answer(engine, replace(short, document="e", max_tokens=6000))
    assert "out of memory" in (await engine.status()).detail
    resource.prlimit(pid, resource.RLIMIT_AS, limits)
    assert await answer(engine, short) == before
    assert "out of memory" not in (await engine.status()).detail
    assert pid_of(place) == pid
    await engine.aclose()


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


async def test_a_truncated_checkpoint_is_named_to_every_window_and_its_process_ends(checkpoint, tmp_path) -> None:
    for path in filter(Path.is_file, checkpoint.iterdir()):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    truncate(tmp_path / "model.safetensors")
    options = EngineOptions(model=str(tmp_path), idle_exit_s=60.0, n_threads=1)
    windows, place = [ProcessEngine(options) for _ in range(3)], rendezvous(options)
    await asyncio.gather(*(window.status() for window in windows))
    pid = pid_of(place)
    for window in windows:
        with pytest.raises(EngineError, match=r"model\.safetensors"):
            await answer(window)
    await asyncio.gather(*(window.aclose() for window in windows))
    await has_ended(pid)
    # A window that asked after the process had ended has started another, which ends as well.
    while (lock := take_lock(place.lock)) is None:
        await asyncio.sleep(0.01)
    assert not place.socket.exists()  # nothing holds the place of an engine that could work
    lock.close()


@pytest.fixture
def full_disk(tmp_path, monkeypatch) -> Iterator[Path]:
    """A state directory on which nothing more can be written."""
    folder = tmp_path / "full"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    state_directory()
    with pytest.raises(OSError, match="No space left"):
        (folder / "ballast").write_bytes(b"x" * (1 << 17))
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


async def test_a_full_disk_costs_the_log_and_nothing_else(tmp_path, full_disk) -> None:
    engine = ProcessEngine(scripted(tmp_path))
    assert await answer(engine) == ANSWER
    assert await answer(engine) == ANSWER
    await engine.aclose()


async def test_a_state_directory_that_cannot_be_made_costs_the_log_and_nothing_else(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    engine = ProcessEngine(scripted(tmp_path))
    assert await answer(engine) == ANSWER
    await engine.aclose()


async def test_a_client_that_is_killed_leaves_nothing_behind(tmp_path) -> None:
    options = scripted(tmp_path)
    place = rendezvous(options)
    code = (
        "import asyncio, sys; from tests.engine.residents import *; from engine.client import ProcessEngine\n"
        "asyncio.run(answer(ProcessEngine(scripted(Path(sys.argv[1]))), SLOW))"
    )
    client = await asyncio.create_subprocess_exec(sys.executable, "-c", code, str(tmp_path), cwd=Path(__file__).parents[2])
    engine = ProcessEngine(options)
    await busy(engine)
    client.kill()
    await client.wait()
    while (await engine.status()).state is not State.READY:
        await asyncio.sleep(0.01)
    pid = pid_of(place)
    await engine.aclose()
    await has_ended(pid)


async def test_engines_of_different_models_and_versions_never_meet(
    tmp_path, checkpoint, multi_head_checkpoint, monkeypatch
) -> None:
    all_options = [scripted(tmp_path, model=str(folder)) for folder in (checkpoint, multi_head_checkpoint)]
    engines = [ProcessEngine(options) for options in all_options]
    assert [await answer(engine) for engine in engines] == [ANSWER] * 2
    assert len({pid_of(rendezvous(options)) for options in all_options}) == 2
    for engine in engines:
        await engine.aclose()
    now = rendezvous(all_options[0])
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.0.1")
    assert rendezvous(all_options[0]).socket != now.socket
