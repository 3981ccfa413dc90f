"""What a terminal shows of the model that ships, in a resident engine: README's pictures, windows, and the engine's death."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from midfill_terminal.trial import Trial, open_text
from textual.pilot import Pilot

from tests.e2e.home import COUNTING, GOES_ON, PATIENCE_S, ROOT, Home, screenshot, wait_for
from tests.e2e.tmux import Tmux

pytestmark = pytest.mark.e2e

SERVE_ARGS = ["--threads", "1"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    made = Home(tmp_path)
    for name, value in made.env.items():
        monkeypatch.setenv(name, value)
    yield made
    made.leave()


async def type_until_suggested(app: Trial, pilot: Pilot[None], text: str) -> None:
    """Types, waits for the answer to each key, and stops at the first suggestion."""
    for char in text:
        n_answers = app.costs.row_count
        await pilot.press({" ": "space", "\n": "enter"}.get(char, char))
        async with asyncio.timeout(PATIENCE_S):
            while app.costs.row_count == n_answers:
                await pilot.pause(0.05)
        if char not in " \n" and app.area.ghost:
            return
    raise AssertionError([app.costs.get_row_at(idx) for idx in range(app.costs.row_count)])


async def wait_until_ready(app: Trial, pilot: Pilot[None]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not app.is_answering:
            await pilot.pause(0.05)


async def test_the_sample_is_completed_by_the_shipped_model(home: Home):
    app = Trial(None, open_text(None), SERVE_ARGS)
    async with app.run_test(size=(96, 30)) as pilot:
        await wait_until_ready(app, pilot)
        await type_until_suggested(app, pilot, " self")
        screenshot("try.svg", app.export_screenshot(title="midfill try"))
        before, ghost = app.area.text, app.area.ghost
        await pilot.press("tab")
        assert app.area.ghost == ""
        app.area.undo()
        assert app.area.text == before
        app.area.redo()
        assert len(app.area.text) == len(before) + len(ghost)


def test_the_demo_is_completed_and_drawn(home: Home, monkeypatch: pytest.MonkeyPatch):
    picture = home.folder / "ghost.svg"
    monkeypatch.chdir(home.project)  # the picture's title is the command, as a person types it there
    demo = (ROOT / "docs/demo/stock.py").read_text("utf-8")
    # One place of those marked there, or README's picture would be higher than a window.
    at = "for item in self.items."
    before, _, after = demo.partition(f"{at}┃")
    home.write("stock.py", before.replace("┃", "") + f"{at}┃" + after.replace("┃", ""))
    said = home.midfill("complete", "stock.py", "--svg", str(picture))
    assert "shipped on " in said
    screenshot("ghost.svg", picture.read_text("utf-8"))


async def test_two_windows_share_an_engine_that_may_die(home: Home):
    app = Trial(home.write("counting.txt", ""), COUNTING, SERVE_ARGS)
    async with app.run_test(size=(96, 30)) as pilot:
        await wait_until_ready(app, pilot)
        app.area.move_cursor(app.area.document.end)
        await type_until_suggested(app, pilot, GOES_ON)
        other = home.write("other.txt", COUNTING)
        with Tmux(home, [str(home.folder / "bin/midfill"), "try", str(other), *SERVE_ARGS], width=96, height=30) as window:
            window.wait_for("ready")
            window.keys(*["Down"] * 8)
            window.type("v")
            wait_for("an answer", lambda: re.search(r"^ *v +\d+ +\d+", window.screen(), re.MULTILINE))
            (pid,) = home.engine_pids()

        os.kill(pid, signal.SIGKILL)
        await pilot.press("escape", "enter", *"typed")
        assert app.area.text.endswith("\ntyped")
        await asyncio.to_thread(wait_for, "another engine", lambda: home.engine_pids() not in ([], [pid]))
        await wait_until_ready(app, pilot)
        await pilot.press("enter")
        await type_until_suggested(app, pilot, GOES_ON)
