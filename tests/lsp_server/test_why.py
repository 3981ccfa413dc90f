"""`midfill why` and `midfill/why`: why there is nothing."""

from __future__ import annotations

import subprocess

import pytest

from lsp_server.settings import Settings
from lsp_server.verdict import Reason, Verdict
from lsp_server.why import why
from tests.lsp_server.wire import URI

SOURCE = "import os\nx = 'hello'\nprint(os)\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.py").write_text(SOURCE)
    (tmp_path / ".env").write_text("KEY=1")
    (tmp_path / "made.py").write_text(SOURCE)
    (tmp_path / ".gitignore").write_text("made.*\n")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    return tmp_path


@pytest.mark.parametrize(
    ("place", "settings", "said"),
    [
        ("a.py", Settings(), "suggestions are on"),
        ("a.py:3:7", Settings(), "code follows"),
        ("a.py:3:3", Settings(), "inside of a word"),
        ("a.py:2:11", Settings(), "finished"),
        ("a.py:4:1", Settings(), "a line is asked for"),
        (".env", Settings(), "never read"),
        ("a.py", Settings(private_globs=("a.*",)), "never read"),
        ("a.py", Settings(disabled_languages=("python",)), "switched off in this language"),
        ("made.py", Settings(), "ignored by git"),
        ("missing.py", Settings(), "suggestions are on"),
    ],
)
def test_a_file_and_a_place_in_it_are_explained(folder, place, settings, said) -> None:
    assert said in "\n".join(why(str(folder / place), settings))


def test_every_reason_has_a_sentence() -> None:
    for reason in Reason:
        assert Verdict(reason).about


def test_the_request_gives_the_last_decision(wire) -> None:
    wire.open("x = yz + ")
    ask = {"textDocument": {"uri": URI}}
    assert wire.ask("midfill/why", ask)["result"]["reason"] == "not_asked"
    assert wire.suggest({"line": 0, "character": 5}) == []
    assert wire.ask("midfill/why", ask)["result"]["reason"] == "mid_word"
    assert wire.suggest({"line": 0, "character": 9})
    assert wire.ask("midfill/why", ask)["result"]["reason"] == "shown"
    for params in ({}, {"textDocument": {}}, {"textDocument": {"uri": "file:///nowhere.py"}}):
        assert wire.ask("midfill/why", params)["result"]["reason"] == "not_open"
