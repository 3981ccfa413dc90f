"""What a user does not notice: a model in another process, windows that share it, and either process dying."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.e2e.home import COUNTING, GOES_ON, Home, wait_for
from tests.e2e.nvim.neovim import Neovim

pytestmark = pytest.mark.e2e

MODEL = {"server": {"n_threads": 1, "idle_exit_s": 600}}


def suggest(nvim: Neovim, name: str = "counting.txt") -> str:
    """Opens the text and types on until there is a suggestion from the model; gives it."""
    nvim.edit(nvim.home.write(name, COUNTING), COUNTING.removesuffix("\n"))
    nvim.type("\n")
    return type_until_suggested(nvim)


def type_until_suggested(nvim: Neovim) -> str:
    wait_for("the model", lambda: nvim.status()["state"] in ("ready", "busy"))
    for char in GOES_ON:
        if ghost := nvim.type_and_hear(char):
            return ghost
    raise AssertionError(f"the model has nothing to say to {nvim.text()!r}\n{nvim.messages()}")


def test_the_shipped_model_suggests_and_what_was_shown_is_saved(home: Home, start):
    nvim = start(MODEL)
    ghost = suggest(nvim)
    before = nvim.text()
    nvim.type(ghost[0])
    nvim.wait_for_ghost(ghost[1:] or None)
    nvim.keys("<BS>")
    nvim.wait_for_ghost(ghost)
    nvim.keys("<Tab>")
    nvim.wait_for_text(before + ghost)
    assert nvim.saved().decode() == before + ghost + "\n"
    nvim.keys("u")
    nvim.wait_for_text(before)


def test_two_windows_share_one_engine(home: Home, start):
    first, second = start(MODEL), start(MODEL)
    assert suggest(first)
    assert suggest(second, "again.txt")
    assert len(home.engine_pids()) == 1
    assert first.status()["model"] == second.status()["model"]


def test_typing_goes_on_when_the_engine_is_killed_and_suggestions_come_back(home: Home, start):
    nvim = start(MODEL)
    suggest(nvim)
    (pid,) = home.engine_pids()
    os.kill(pid, signal.SIGKILL)
    before = nvim.text()
    nvim.type("\nvalue")
    nvim.wait_for_text(before + "\nvalue")
    nvim.type("\n")
    assert type_until_suggested(nvim)
    assert home.engine_pids() != [pid]


def server_pid(nvim: Neovim) -> int | None:
    """Finds the language server among Neovim's children."""
    for task in Path(f"/proc/{nvim.lua('return vim.fn.getpid()')}/task").iterdir():
        for child in (task / "children").read_text("utf-8").split():
            if b"lsp_server" in Path("/proc", child, "cmdline").read_bytes():
                return int(child)
    return None


def typed_return(nvim: Neovim) -> None:
    nvim.edit(nvim.home.write("area.py", "def area(width, height):\n    return\n"), "return")
    nvim.type(" ")
    nvim.wait_for_ghost("width * height")


@pytest.mark.parametrize("how", ["killed", "restarted by hand"])
def test_suggestions_come_back_when_the_server_is(how: str, home: Home, start):
    nvim = start()
    typed_return(nvim)
    before = wait_for("the server", lambda: server_pid(nvim))
    if how == "killed":
        os.kill(before, signal.SIGKILL)
    else:
        nvim.rpc.command("Midfill restart")
    wait_for("another server", lambda: server_pid(nvim) not in (None, before))
    wait_for("the document in it", nvim.is_attached)
    nvim.type("x")
    nvim.keys("<BS>")
    nvim.wait_for_ghost("width * height")


def test_a_server_that_always_dies_is_given_up_with_a_message(home: Home, start):
    nvim = start({"server": {}, "cmd": ["false"]})
    nvim.rpc.command(f"edit {home.write('area.py', '')}")
    wait_for("the message", lambda: "see :checkhealth midfill" in nvim.messages())


def test_a_missing_server_is_named(start):
    assert "`no-such-command` is not on PATH" in start({"cmd": ["no-such-command"]}).messages()
