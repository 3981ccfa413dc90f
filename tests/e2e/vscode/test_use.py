"""The extension beside the text: what it says, what turns it off, what a workspace can't do, and servers that die."""

from __future__ import annotations

import itertools
import json
import os
import signal

import pytest
from playwright.sync_api import Browser

from tests.e2e.home import Home, screenshot, wait_for
from tests.e2e.vscode.code_server import SIZE, CodeServer, Window

pytestmark = pytest.mark.e2e

AREA = "def area(width, height):\n    "
SCRIPTED = "model: scripted"
_numbers = itertools.count()


@pytest.fixture
def window(shared_window: Window, home: Home) -> Window:
    """The shared window with a document of this test's own, the cursor where a suggestion is written."""
    shared_window.shows_status("midfill", SCRIPTED)
    shared_window.open(home.write(f"use{next(_numbers)}.py", AREA + "\n"))
    shared_window.go(1)
    return shared_window


SHAPES = """# Shapes with straight sides.

def area(width, height):
    return width * height


def perimeter(width, height)
"""


SUGGESTED = '\n    """Walks along all four sides."""\n    return 2 * (width + height)'


def test_a_picture(shared_window: Window, home: Home) -> None:
    """Is the one that README shows; UPDATE_SCREENSHOTS=1 checks it in."""
    window = shared_window
    window.press("Control+b")
    window.page.locator(".part.sidebar").wait_for(state="hidden")
    window.page.set_viewport_size({"width": 800, "height": 340})
    window.open(home.write("shapes.py", SHAPES))
    window.go(6)
    window.type(":")
    window.sees(SUGGESTED)
    window.shows_status("midfill", SCRIPTED)
    screenshot("vscode.png", window.page.screenshot())
    window.page.set_viewport_size(SIZE)


def test_what_was_shown_and_accepted_is_reported(window: Window, home: Home) -> None:
    window.type("return ")
    window.sees("width * height")
    window.shows_status("midfill", "last suggestion: ")
    window.press("Control+ArrowRight")
    window.sees(" * height")
    window.press("Alt+End")
    window.sees("")
    window.press("Enter")
    window.type("total = ")
    window.sees("first(width) + second[height]")
    window.press("Alt+End")
    window.sees("")
    window.press("Enter")
    window.type("return ")
    window.sees("width * height")
    window.press("Tab")
    window.press("Enter")
    window.type("print(")
    window.sees("width, height")
    window.press("Escape")
    window.sees("")
    window.command("midfill: Restart Server")  # which writes its counters as it ends
    counted = wait_for("counters", lambda: _counters(home))
    assert counted["shown"] >= 4
    assert counted["partially_accepted"] >= 1
    assert counted["accepted"] >= 1
    assert counted["dismissed"] == 1


def test_off_everywhere_and_on_again(window: Window) -> None:
    window.command("midfill: Turn Suggestions On or Off")
    window.shows_status("midfill: off", "midfill.enabled is false")
    window.type("return ")
    window.page.wait_for_timeout(1000)  # for what must not come
    assert window.ghost == ""
    window.command("midfill: Turn Suggestions On or Off")
    window.shows_status("midfill", SCRIPTED)
    window.press("Enter")
    window.type("return ")
    window.sees("width * height")


def test_off_in_a_language_and_on_again(window: Window) -> None:
    window.command("midfill: Turn Suggestions On or Off in This Language")
    window.shows_status("midfill: off", "midfill.disabled_languages has python")
    window.command("midfill: Turn Suggestions On or Off in This Language")
    window.shows_status("midfill", SCRIPTED)
    window.type("return ")
    window.sees("width * height")


def test_vscode_own_switch_is_respected(window: Window, vscode: CodeServer, home: Home) -> None:
    scripted: dict[str, object] = {"midfill_engine": "scripted", "midfill_script": str(home.script)}
    vscode.configure(**scripted, **{"editor_inlineSuggest.enabled": False})
    window.shows_status("midfill: off", "editor.inlineSuggest.enabled is false")
    window.type("return ")
    window.page.wait_for_timeout(1000)  # for what must not come
    assert window.ghost == ""
    vscode.configure(**scripted)
    window.shows_status("midfill", SCRIPTED)


def test_a_server_that_is_missing_is_said_with_what_to_do(window: Window, vscode: CodeServer, home: Home) -> None:
    scripted: dict[str, object] = {"midfill_engine": "scripted", "midfill_script": str(home.script)}
    vscode.configure(**scripted, midfill_path="/nowhere/midfill")
    window.shows_status("midfill: not installed", "which is not a program")
    window.page.get_by_role("button", name="Set Its Path").first.click()
    window.page.locator(".settings-editor").wait_for()
    window.command("View: Close Editor")
    vscode.configure(**scripted)
    window.shows_status("midfill", SCRIPTED)


def test_what_was_typed_while_the_server_started_is_suggested_once_it_is_there(
    window: Window, vscode: CodeServer, home: Home
) -> None:
    may_start, slow = home.folder / "may start", home.folder / "bin" / "slow"
    slow.write_text(f'#!/bin/sh\nwhile [ ! -e "{may_start}" ]; do sleep 0.1; done\nexec midfill "$@"\n', "utf-8")
    slow.chmod(0o755)
    scripted: dict[str, object] = {"midfill_engine": "scripted", "midfill_script": str(home.script)}
    vscode.configure(**scripted, midfill_path=str(slow))
    window.shows_status("midfill", "the server is starting")
    window.type("return ")
    window.shows(AREA + "return ")
    may_start.touch()
    window.sees("width * height")
    vscode.configure(**scripted)
    window.shows_status("midfill", "found by PATH")


def test_steps_of_the_walkthrough_are_ticked_as_they_are_done(window: Window, home: Home) -> None:
    path = home.write("steps.py", "return\n")
    window.walkthrough("Start with midfill")
    window.command("midfill: Diagnose")
    wait_for("the report", lambda: "midfill: diagnosis" in window.text)
    assert window.walkthrough("Start with midfill")["install"]
    window.open(path)
    window.go(0)
    window.type(" ")
    window.sees("width * height")
    for _ in range(2):
        window.command("midfill: Turn Suggestions On or Off in This Language")
    window.command("midfill: Switch Model…")
    window.page.get_by_text("needs no download").wait_for()
    window.press("Escape")
    assert window.walkthrough("Start with midfill") == dict.fromkeys(("install", "type", "model", "off"), True)
    window.command("View: Close Editor")


def test_a_killed_server_comes_back(window: Window, vscode: CodeServer) -> None:
    (pid,) = vscode.server_pids()
    os.kill(pid, signal.SIGKILL)
    window.type("re")
    wait_for("another server", lambda: vscode.server_pids() not in ([], [pid]))
    window.shows_status("midfill", SCRIPTED)
    window.type("turn ")
    window.sees("width * height")


def test_many_restarts_leave_one_server(window: Window, vscode: CodeServer) -> None:
    before = vscode.server_pids()
    for _ in range(3):
        window.command("midfill: Restart Server")
    window.page.wait_for_timeout(1000)  # in which the first ends; the last is ready when nothing changes any more
    wait_for("one server to stay", lambda: (now := vscode.server_pids()) != before and _stays(window, vscode, now))
    window.type("return ")
    window.sees("width * height")
    assert len(vscode.server_pids()) == 1


def test_the_report_says_what_was_found_and_holds_no_text(window: Window) -> None:
    window.command("midfill: Diagnose")
    report = wait_for("the report", lambda: window.text if "midfill: diagnosis" in window.text else "")
    assert "/bin/midfill, by PATH" in report
    assert "area" not in report


def test_a_workspace_chooses_neither_program_nor_engine(vscode: CodeServer, home: Home, browser: Browser) -> None:
    folder = home.folder / "hostile"
    (folder / ".vscode").mkdir(parents=True)
    (folder / ".venv/bin").mkdir(parents=True)
    mark = home.folder / "ran"
    for program in (folder / "evil", folder / ".venv/bin/midfill"):
        program.write_text(f"#!/bin/sh\ntouch {mark}\n", "utf-8")
        program.chmod(0o755)
    values = {"midfill.path": str(folder / "evil"), "midfill.engine": "resident", "midfill.model": str(folder)}
    (folder / ".vscode/settings.json").write_text(json.dumps(values), "utf-8")
    window = vscode.window(browser, folder)
    assert SCRIPTED in window.status[1]
    window.close()
    assert not mark.exists()


def _stays(window: Window, vscode: CodeServer, pids: list[int]) -> bool:
    window.page.wait_for_timeout(3000)
    return len(pids) == 1 and vscode.server_pids() == pids and SCRIPTED in window.status[1]


def _counters(home: Home) -> dict[str, int]:
    lines = [line.split() for line in home.midfill("stats").splitlines()]
    found = {line[0]: int(line[1]) for line in lines if len(line) == 2 and line[1].isdecimal()}
    return found if found.get("dismissed") else {}
