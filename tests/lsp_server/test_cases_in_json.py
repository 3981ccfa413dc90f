"""The programs that judge cases, one a line in JSON."""

from __future__ import annotations

import io
import json
import sys

import pytest

from lsp_server import postprocess, trigger

GOOD = {"language": "py", "prefix": "x = f(", "suffix": ")\n", "raw": "a)", "mode": "line"}
BAD = ["{", "[]", "null", '{"language": "python"}', json.dumps({**GOOD, "prefix": 1})]


def lines_from(monkeypatch, capsys, program, *lines: str) -> tuple[list[str], str]:
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
    program.main()
    out, err = capsys.readouterr()
    return out.splitlines(), err


@pytest.mark.parametrize("bad", [*BAD, json.dumps({**GOOD, "raw": None}), json.dumps({**GOOD, "mode": "all"})])
def test_a_case_that_is_none_is_named_and_the_others_are_judged(monkeypatch, capsys, bad) -> None:
    out, err = lines_from(monkeypatch, capsys, postprocess, bad, "", json.dumps(GOOD))
    assert [json.loads(line) for line in out] == [None, {"text": "a", "replace": 0, "replace_before": 0}]
    assert err.startswith("line 1: ")


@pytest.mark.parametrize("bad", BAD)
def test_a_place_that_is_none_gets_nothing(monkeypatch, capsys, bad) -> None:
    out, err = lines_from(monkeypatch, capsys, trigger, bad, json.dumps(GOOD))
    assert out == ["none", "line"]
    assert err.startswith("line 1: ")


@pytest.mark.parametrize(
    ("alias", "language"), [("py", "python"), ("Python", "python"), ("tsx", "typescriptreact"), ("c++", "cpp")]
)
def test_a_language_goes_by_other_names_too(monkeypatch, capsys, alias, language) -> None:
    prefix = "def f():\n    " if language == "python" else "if (a) {\n  "
    answers = [
        lines_from(monkeypatch, capsys, trigger, json.dumps({"language": name, "prefix": prefix, "suffix": "\n"}))[0]
        for name in (alias, language)
    ]
    assert answers == [["block"], ["block"]]
