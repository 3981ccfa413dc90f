"""Emacs' own screen, in tmux: the idle timer, a real input method, and the picture in the documentation."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.emacs.test_emacs import HERE, PACKAGE
from tests.e2e.home import Home, screenshot, wait_for
from tests.e2e.tmux import Tmux

pytestmark = pytest.mark.e2e


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path)
    yield made
    made.leave()


def emacs(home: Home, path: Path) -> Tmux:
    settings = "".join(f'midfill-{name} "{value}" ' for name, value in home.scripted.items())
    setup = f'(setq make-backup-files nil default-input-method "latin-prefix" {settings})'
    command = ["emacs", "-nw", "-Q", "-L", str(PACKAGE), "-l", "midfill", "--eval", setup]
    return Tmux(home, [*command, "--eval", "(progn (menu-bar-mode -1) (global-midfill-mode))", str(path)])


def test_ghost_text_is_on_the_screen_and_goes_into_the_file(home: Home):
    path = home.write("shapes.py", "def area(width, height):\n    return\n\n\ndef block()\n")
    with emacs(home, path) as tmux:
        tmux.wait_for("def block")
        tmux.keys("C-n", "C-e")
        tmux.type(" ")
        tmux.wait_for("return width * height")
        tmux.keys("Tab")
        tmux.keys("M->", "C-b")
        tmux.type(":")
        tmux.wait_for("return one + two")
        screenshot("emacs.svg", tmux.svg("Emacs"))
        tmux.keys("C-e", "M-<", "C-x", "C-s")
        wait_for("the file", lambda: path.read_bytes().endswith(b"def block():\n    one = 1\n"))
        tmux.keys("C-x", "C-c")
    assert path.read_text("utf-8") == "def area(width, height):\n    return width * height\n\n\ndef block():\n    one = 1\n"


def test_an_input_method_composes_its_character_beside_ghost_text(home: Home):
    path = home.write("code.txt", "naïve =\n")
    with emacs(home, path) as tmux:
        tmux.wait_for("naïve =")
        tmux.keys("C-e", "C-\\")
        tmux.type(" ")
        tmux.wait_for("naïve = café + 1")
        tmux.type("'")  # begins a character
        tmux.wait_for("naïve = '")
        tmux.type("e")
        tmux.wait_for("naïve = é")
        wait_for("the ghost text to go", lambda: "café" not in tmux.screen())
        tmux.keys("C-\\", "C-x", "C-s")
        wait_for("the file", lambda: path.read_text("utf-8") == "naïve = é\n")


def run_shipped(home: Home, selector: str) -> subprocess.Popen[str]:
    command = ["emacs", "-Q", "--batch", "-L", str(PACKAGE), "-l", str(HERE / "midfill-shipped-test.el")]
    run = f'(ert-run-tests-batch-and-exit "{selector}")'
    return subprocess.Popen(
        [*command, "--eval", run], env=home.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_two_emacs_share_one_engine_with_the_shipped_model(home: Home):
    both = [run_shipped(home, "midfill-shipped-suggests"), run_shipped(home, "midfill-shipped-suggests")]
    for each in both:
        output, _ = each.communicate(timeout=300)
        assert each.returncode == 0, output
    assert len(home.engine_pids()) == 1


def test_suggestions_come_back_after_the_engine_was_killed(home: Home):
    running = run_shipped(home, "midfill-shipped-survives")
    flag = home.project / "suggested"
    wait_for("a suggestion", lambda: flag.exists() or running.poll() is not None)
    for pid in home.engine_pids():
        os.kill(pid, signal.SIGKILL)
    flag.write_text("killed", "utf-8")
    output, _ = running.communicate(timeout=300)
    assert running.returncode == 0, output
