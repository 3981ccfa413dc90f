"""Neovim's own screen, in tmux: the picture in the documentation."""

from __future__ import annotations

import pytest

from tests.e2e.home import Home, screenshot, wait_for
from tests.e2e.nvim.neovim import NVIM, install
from tests.e2e.tmux import Tmux

pytestmark = pytest.mark.e2e

INIT = """
vim.o.laststatus = 2
vim.o.ruler = false
vim.o.statusline = "%f %m%=%{v:lua.require'midfill'.statusline()} "
vim.o.number = true
"""


def test_ghost_text_is_on_the_screen_and_goes_into_the_file(home: Home):
    install(home, init=INIT)
    path = home.write("shapes.py", "def area(width, height):\n    return\n\n\ndef block()\n")
    with Tmux(home, [str(NVIM), str(path)]) as tmux:
        tmux.wait_for("midfill: ready")
        tmux.keys("j", "A")
        tmux.type(" ")
        tmux.wait_for("return width * height")
        tmux.keys("Tab", "Escape", "G", "A")
        tmux.type(":")
        tmux.wait_for("return one + two")
        tmux.wait_for("midfill: ready")
        screenshot("neovim.svg", tmux.svg("Neovim"))
        tmux.keys("M-C-Right", "Escape")
        tmux.type(":wq\r")
        wait_for("the file", lambda: path.read_bytes().endswith(b"def block():\n    one = 1\n"))
    assert path.read_text("utf-8") == "def area(width, height):\n    return width * height\n\n\ndef block():\n    one = 1\n"
