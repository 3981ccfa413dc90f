"""Where something is suggested unasked, and how much."""

from __future__ import annotations

import io
import json
import sys

import pytest

from lsp_server import trigger
from lsp_server.place import Place
from lsp_server.trigger import Mode, When, decide
from tests.data.trigger import CASES, Case
from tests.lsp_server.places import split


def check(case: Case, **switches: When) -> None:
    before, after = split(case.marked)
    assert decide(Place.at(case.language, before, after), invoked=case.invoked, **switches) is Mode(case.mode)


@pytest.mark.parametrize("case", CASES)
def test_what_is_suggested_where(case) -> None:
    check(case)


@pytest.mark.parametrize(
    ("when", "invoked", "mode"),
    [
        (When.OFF, False, "none"),
        (When.OFF, True, "none"),
        (When.ON_DEMAND, False, "none"),
        (When.ON_DEMAND, True, "line"),
        (When.ON, False, "line"),
    ],
)
def test_comments_and_strings_are_switched(when, invoked, mode) -> None:
    check(Case("python", "# returns ┃\n", mode, invoked), comments=when, strings=When.OFF)
    check(Case("python", "x = 'hello ┃\n", mode, invoked), strings=when, comments=When.OFF)


def test_the_program_decides_cases_in_json(monkeypatch, capsys) -> None:
    lines = [
        json.dumps({"language": "python", "prefix": "def f():\n    ", "suffix": "\n", "invoked": False}),
        json.dumps({"language": "python", "prefix": "pri", "suffix": "nt\n", "invoked": False}),
    ]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines) + "\n"))
    trigger.main()
    assert capsys.readouterr().out.split() == ["block", "none"]
