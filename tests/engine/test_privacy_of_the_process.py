"""Nobody else on this machine, and nobody on any other: a second user, a network namespace, a filter on system calls."""

from __future__ import annotations

import asyncio
import ctypes
import os
import platform
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from engine.api import EngineClosed
from engine.link import Link
from engine.process import EngineProcess
from engine.rendezvous import runtime_directory
from engine.scripted import Rule, ScriptedEngine

ROOT = Path(__file__).parents[2]
NOBODY = 65534
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")


@pytest.fixture
def open_ground() -> Iterator[Path]:
    """A directory that everybody may enter and write into."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o1777)
        yield Path(folder)


@pytest.fixture
async def socket_path(open_ground, monkeypatch) -> AsyncIterator[Path]:
    """The socket of a process that serves in this loop, under a directory that everybody may enter."""
    runtime = open_ground / "runtime"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    path = runtime_directory() / "engine.sock"
    task = asyncio.create_task((process := EngineProcess(ScriptedEngine([Rule(prefix_ends="")]), idle_exit_s=60)).serve(path))
    while not path.exists():
        await asyncio.sleep(0.001)
    yield path
    process.stop()
    await task


async def as_nobody(act: Callable[[], object]) -> str:
    """What comes of an act of another user: the name of the error that it meets, or the result."""
    receiving, sending = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os.write(sending, repr(act()).encode())
        except Exception as error:
            os.write(sending, type(error).__name__.encode())
        finally:
            os._exit(0)
    os.close(sending)
    await asyncio.to_thread(os.waitpid, pid, 0)
    with os.fdopen(receiving) as result:
        return result.read()


def connect(path: Path) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(path))
        return client.recv(100)


def listen(path: Path) -> socket.socket:
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()
    return server


@as_root
async def test_a_second_user_cannot_reach_read_or_replace_anything(socket_path) -> None:
    directory = socket_path.parent
    (directory / "engine.log").write_text("a log")
    acts: list[Callable[[], object]] = [
        lambda: connect(socket_path),
        lambda: os.listdir(directory),
        lambda: (directory / "engine.log").read_text(),
        lambda: listen(directory / "other.sock"),
        lambda: socket_path.unlink(),
        lambda: directory.rename(directory.with_name("moved")),
    ]
    assert [await as_nobody(act) for act in acts] == ["PermissionError"] * len(acts)


@as_root
async def test_a_second_user_whom_the_file_system_lets_through_is_not_greeted(socket_path) -> None:
    for path, mode in ((socket_path.parent.parent, 0o755), (socket_path.parent, 0o755), (socket_path, 0o666)):
        path.chmod(mode)
    assert await as_nobody(lambda: connect(socket_path)) == "b''"
    link = await Link.open(socket_path)
    await link.aclose()


@as_root
async def test_a_second_user_who_was_first_is_not_talked_to(open_ground) -> None:
    """It listens where we would look for our engine."""
    path, pid = open_ground / "engine.sock", os.fork()
    if not pid:
        os.setuid(NOBODY)
        server = listen(path)
        server.accept()
        signal.pause()
    try:
        while not path.exists():
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        with pytest.raises(EngineClosed, match="another user listens"):
            await Link.open(path)
    finally:
        os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(os.waitpid, pid, 0)


N_SOCKET = {"x86_64": 41, "aarch64": 198}.get(platform.machine())  # the system call's number


def forbid_internet_sockets() -> None:
    """From here on, the kernel kills this process and all its children at the making of an internet socket."""
    load, if_equal, give = 0x20, 0x15, 0x06  # of classic BPF: ld [k], jeq k, ret k
    program = [(load, 0, 0, 0), (if_equal, 0, 4, N_SOCKET), (load, 0, 0, 16), (if_equal, 1, 0, socket.AF_INET)]
    program += [(if_equal, 0, 1, socket.AF_INET6), (give, 0, 0, 0x80000000), (give, 0, 0, 0x7FFF0000)]  # kill, allow
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in program))
    fprog = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, fprog, 0, 0):  # no new privileges; seccomp filter
        raise OSError(ctypes.get_errno(), "no seccomp filter here")


def run_filtered(code: str) -> subprocess.CompletedProcess[str]:
    """Runs Python code under the filter, and where that is allowed without any network at all."""
    filtered = f"from tests.engine.test_privacy_of_the_process import *; forbid_internet_sockets()\n{code}"
    command = [*(["unshare", "-n"] if os.getuid() == 0 else []), sys.executable, "-c", filtered]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


SESSION = """
import subprocess, sys
options = ["--model", {model!r}, "--engine", "resident", "--idle-exit-s", "1", "--threads", "1"]
sys.exit(subprocess.run([sys.executable, "-m", "lsp_server", "complete", {place!r}, *options]).returncode)
"""


@pytest.fixture
def session(checkpoint, tmp_path, private_directories) -> str:
    """Code that runs a language server, an engine process and a suggestion, as `midfill complete` does."""
    (tmp_path / "shapes.py").write_text("def area(width, height):\n    return \n")
    return SESSION.format(place=f"{tmp_path / 'shapes.py'}:2:12", model=str(checkpoint))


@pytest.mark.skipif(N_SOCKET is None, reason="the number of the system call is not known for this processor")
def test_a_whole_session_needs_no_network_and_makes_no_internet_socket(session) -> None:
    """The kernel would kill whoever tried, as it does with the one that does."""
    assert run_filtered("socket.socket(socket.AF_INET)").returncode == -signal.SIGSYS
    assert run_filtered("socket.socket(socket.AF_INET6)").returncode == -signal.SIGSYS
    assert run_filtered("socket.socket(socket.AF_UNIX)").returncode == 0
    done = run_filtered(session)
    assert done.returncode == 0, done.stderr
    assert "return" in done.stdout
