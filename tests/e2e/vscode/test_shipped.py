"""The model that ships, in the resident engine that all windows share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.e2e.home import Home, wait_for
from tests.e2e.vscode.code_server import CodeServer, Window

pytestmark = pytest.mark.e2e

# Which of them the model completes is its own affair, and changes with its weights.
BEGINNINGS = ("for i in range(", "self.name = ", "if __name__ ==", "return self.", "import ", "x = len(", "def __init__(self, ")


@pytest.fixture(scope="module")
def vscode(home: Home) -> Iterator[CodeServer]:
    started = CodeServer(home)
    yield started
    started.close()


def test_two_windows_share_an_engine_that_may_die(vscode: CodeServer, home: Home, browser: Browser) -> None:
    first, second = (vscode.window(browser, model="shipped") for _ in range(2))
    for name, window in (("first", first), ("second", second)):
        window.open(home.write(f"{name}.py", "import os\n\n\n"))
        window.go(2)
        _gets_a_suggestion(window)
    (pid,) = home.engine_pids()

    os.kill(pid, signal.SIGKILL)
    first.press("Escape", "End", "Enter")
    first.type("while_it_is_down = 1")
    wait_for("another engine", lambda: home.engine_pids() not in ([], [pid]))
    first.press("Enter")
    _gets_a_suggestion(first)
    first.press("Tab")
    first.save()
    saved = (home.project / "first.py").read_text("utf-8")
    assert "while_it_is_down = 1\n" in saved
    wait_for("what is saved to be drawn", lambda: (drawn := first.text.strip()) and drawn in saved)
    assert len(home.engine_pids()) == 1
    first.close()
    second.close()


def _gets_a_suggestion(window: Window) -> None:
    """Asks for one behind beginnings of lines until one is drawn."""
    for beginning in BEGINNINGS * 3:
        window.type(beginning)
        window.press("Alt+\\")
        try:
            wait_for("a suggestion", lambda: window.ghost, patience_s=5)
        except AssertionError:
            window.press("Escape", "End", "Enter", "Home")
        else:
            return
    raise AssertionError(f"nothing was suggested in\n{window.text}")
