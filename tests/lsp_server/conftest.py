"""Servers to talk to, kept away from the user's own files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lsp_server.wire import Wire, write_script

# Written at the end of any prefix; `slow` and `broken` stand for a long decode and a failing engine.
SCRIPT = (
    {"prefix_ends": "return ", "text": "a + b\n"},
    {"prefix_ends": "slow ", "text": "one two three four five six\n", "token_ms": 100_000},
    {"prefix_ends": "broken ", "error": "EngineClosed"},
    {"prefix_ends": "", "text": "done()\n"},
)


@pytest.fixture(scope="session")
def private_env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment with fresh, private user directories."""
    env = dict(os.environ)
    for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        folder = tmp_path_factory.mktemp("xdg")
        folder.chmod(0o700)
        env[name] = str(folder)
    return env


@pytest.fixture(scope="session")
def script(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_script(tmp_path_factory.mktemp("script"), *SCRIPT)


@pytest.fixture
def serve(private_env: dict[str, str], script: str) -> Iterator[Callable[..., Wire]]:
    """Starts servers, on the script unless options say otherwise, and ends what is left of them."""
    wires: list[Wire] = []

    def start(*options: str, env: dict[str, str] | None = None) -> Wire:
        options = options or ("--engine", "scripted", "--script", script)
        wires.append(Wire(*options, env=env or private_env))
        return wires[-1]

    yield start
    for wire in wires:
        wire.kill()


@pytest.fixture
def wire(serve: Callable[..., Wire]) -> Wire:
    """One initialised server of this test's own."""
    started = serve()
    started.start()
    return started


@pytest.fixture(scope="module")
def shared_wire(private_env: dict[str, str], script: str) -> Iterator[Wire]:
    """One initialised server for all cases of a file, each of which must leave it able to answer."""
    started = Wire("--engine", "scripted", "--script", script, env=private_env)
    started.start()
    yield started
    started.kill()


def config_home(folder: Path, env: dict[str, str], toml: str) -> dict[str, Any]:
    """The environment with a midfill.toml of the user's."""
    (folder / "midfill").mkdir(parents=True)
    (folder / "midfill" / "midfill.toml").write_text(toml, "utf-8")
    return {**env, "XDG_CONFIG_HOME": str(folder)}
