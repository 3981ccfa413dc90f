"""Whatever happens to the engine's process while somebody types, requests are answered in time and the document stays right."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine.conftest import checkpoint  # noqa: F401  a fixture
from tests.engine.residents import children_of
from tests.lsp_server.conftest import config_home
from tests.lsp_server.wire import URI, Wire, texts

DEADLINE_S = 0.3
SLACK_S = 2.0  # for a machine that is busy; an answer that waits for an engine's start or a timeout takes longer
N_KEYS = 6


class Residence:
    """The runtime directory of the one engine that a test's server starts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def pid(self) -> int:
        return int(next(self._folder.rglob("*.lock")).read_text())

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def remove_socket(self) -> None:
        next(self._folder.rglob("*.sock")).unlink()

    def kill_and_open_to_others(self) -> None:
        self.signal(signal.SIGKILL)
        (self._folder / "midfill").chmod(0o755)

    def close_to_others(self) -> None:
        (self._folder / "midfill").chmod(0o700)


FAULTS: list[tuple[Callable[[Residence], object], Callable[[Residence], object]]] = [
    (lambda place: place.signal(signal.SIGKILL), lambda place: None),
    (lambda place: place.signal(signal.SIGSTOP), lambda place: place.signal(signal.SIGCONT)),
    (Residence.remove_socket, lambda place: None),
    (Residence.kill_and_open_to_others, Residence.close_to_others),
    (lambda place: place.signal(signal.SIGTERM), lambda place: None),
]


@pytest.fixture
def residence(tmp_path, private_env, monkeypatch) -> tuple[Residence, dict[str, str]]:
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    toml = f"idle_exit_s = 1\ndeadline_ms = {DEADLINE_S * 1000:.0f}\nmax_tokens = 8\n"
    toml += "prefetch = false\n"  # what is cached decides the order of a prompt, and random weights tell the orders apart
    return Residence(runtime), config_home(tmp_path, {**private_env, "XDG_RUNTIME_DIR": str(runtime)}, toml)


def suggestion(wire: Wire, line: int, character: int, uri: str = URI) -> list[str]:
    started_s = time.monotonic()
    items = wire.suggest({"line": line, "character": character}, uri=uri)
    assert time.monotonic() - started_s < DEADLINE_S + SLACK_S
    return texts(items)


def until_answered(wire: Wire, line: int, character: int, uri: str = URI) -> list[str]:
    """Asks until a model has answered; what random weights write may well be judged not worth showing."""
    give_up_s = time.monotonic() + 60
    while True:
        found = suggestion(wire, line, character, uri)
        last = wire.ask("midfill/status", {})["result"]["last"]
        if last is not None and last["finish"] not in ("deadline", "error", "cancelled"):
            return found
        assert time.monotonic() < give_up_s, "\n".join(wire.log)
        time.sleep(0.1)


def until_gone(pid: int) -> None:
    """Waits for a process that is ending: it lets go of its lock a little before it is gone."""
    command, give_up_s = Path(f"/proc/{pid}/cmdline"), time.monotonic() + 10
    while command.exists() and command.read_bytes():  # a zombie has none
        assert time.monotonic() < give_up_s
        time.sleep(0.05)


def test_typing_goes_on_whatever_happens_to_the_engine(serve, residence, checkpoint) -> None:  # noqa: F811
    place, env = residence
    wire = serve("--engine", "resident", "--model", str(checkpoint), "--threads", "1", env=env)
    wire.start()
    text = "a = 1\n"
    wire.open(text, language="plaintext")  # random weights write nothing that parses
    until_answered(wire, 1, 0)
    version = 1
    for hurt, heal in FAULTS:
        hurt(place)
        for _ in range(N_KEYS):
            version += 1
            line = text.count("\n")
            typed = f"x{version} = 1\n"
            at = {"line": line, "character": 0}
            wire.change({"range": {"start": at, "end": at}, "text": typed}, version=version)
            text += typed
            suggestion(wire, line + 1, 0)
        heal(place)
        until_answered(wire, text.count("\n"), 0)
    again = "file:///project/again.py"
    wire.open(text, uri=again, language="plaintext")
    line = text.count("\n")
    assert until_answered(wire, line, 0) == until_answered(wire, line, 0, again)  # as if opened with this text
    assert wire.stop() == 0


@pytest.mark.parametrize("kind", ["resident", "child"])
def test_who_restarts_the_engine_gets_another_process(serve, residence, checkpoint, kind) -> None:  # noqa: F811
    place, env = residence
    wire = serve("--engine", kind, "--model", str(checkpoint), "--threads", "1", env=env)
    wire.start()
    wire.open("a = 1\n", language="plaintext")

    def engine_pid() -> int:
        if kind == "resident":
            return place.pid
        (child,) = children_of(wire.process.pid)
        return child

    first = until_answered(wire, 1, 0)
    old = engine_pid()
    wire.ask("midfill/restartEngine", {})
    assert until_answered(wire, 1, 0) == first
    assert engine_pid() != old
    until_gone(old)
    assert wire.stop() == 0
