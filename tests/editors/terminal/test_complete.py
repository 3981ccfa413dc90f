"""`midfill complete` shows what the real server says, and mends nothing silently."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[3] / "docs" / "demo" / "stock.py"


@pytest.fixture
def complete(tmp_path, monkeypatch):
    for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        (tmp_path / name).mkdir(mode=0o700)
        monkeypatch.setenv(name, str(tmp_path / name))

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "lsp_server", "complete", *args]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    return run


def test_every_mark_of_the_demo_gets_a_panel_with_its_costs(complete) -> None:
    done = complete(str(DEMO), "--engine", "in-process")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("stock.py:") == DEMO.read_text("utf-8").count("┃")
    assert done.stdout.count("shipped on cpu") == 5
    assert "prefilled" in done.stdout


def test_the_scripted_engine_is_not_taken_for_a_model(complete, tmp_path) -> None:
    script = tmp_path / "script.json"
    script.write_text(json.dumps([{"prefix_ends": "", "text": "x"}]), "utf-8")
    done = complete(str(DEMO), "--engine", "scripted", "--script", str(script))
    assert done.returncode == 1
    assert "the scripted engine replays written text" in done.stderr


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ((f"{DEMO}:999:1",), 2, "lines, line 999 was asked for"),
        (("missing.py:1:1",), 2, "missing.py: cannot be read: No such file or directory"),
        ((f"{DEMO}", "--model", "no/where", "--engine", "in-process"), 1, "`midfill models pull no/where` downloads it"),
    ],
)
def test_what_cannot_be_shown_is_one_line_that_says_why(complete, args, code, message) -> None:
    done = complete(*args)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
