"""Code that a model wrote runs within limits, and passes only if it reaches its end."""

from __future__ import annotations

import socket

import pytest

from engine.training.sandbox import Sandbox

PASSES = ["", "assert 1 + 1 == 2", "class A:\n    def f(self):\n        return A\nassert A().f() is A", "x = 'ä\\n'"]
FAILS = [
    "assert False",
    "def f(:",
    "import sys; sys.exit(0)",  # before its tests
    "import os; os._exit(0)",
    "while True: pass",
    "x = bytearray(1 << 30)",
    "with open('left', 'w') as file: file.write('x' * 100)",
    "x = '\\ud800'; print(1 / 0)",
]


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    chosen = Sandbox.without_network()
    return Sandbox(chosen.isolate, cpu_s=1)


@pytest.mark.parametrize("code", PASSES)
def test_what_reaches_its_end_passes(sandbox: Sandbox, code: str) -> None:
    assert sandbox.passes(code)


@pytest.mark.parametrize("code", FAILS)
def test_what_fails_stops_early_or_takes_too_much_does_not(sandbox: Sandbox, code: str) -> None:
    assert not sandbox.passes(code)


def test_a_program_that_sleeps_is_ended(sandbox: Sandbox) -> None:
    assert not Sandbox(sandbox.isolate, timeout_s=0.5).passes("import time; time.sleep(60)")


def test_there_is_no_network_where_the_system_can_take_it_away(sandbox: Sandbox) -> None:
    if not sandbox.isolate:
        pytest.skip("this system gives no network namespace to an unprivileged process")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not sandbox.passes(f"import socket; socket.create_connection(('127.0.0.1', {port}), 2)")
