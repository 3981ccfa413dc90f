"""The filters: what is written at the cursor, and the document that results."""

from __future__ import annotations

import io
import json
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsp_server import postprocess as postprocess_module
from lsp_server.place import MAX_BEFORE, Place
from lsp_server.postprocess import Limits, postprocess
from lsp_server.syntax import n_errors
from lsp_server.trigger import Mode
from tests.data import postprocess as written_by_hand
from tests.data import postprocess_hunted as hunted
from tests.data.postprocess import Case
from tests.lsp_server.places import split


def document_after(case: Case) -> str | None:
    before, after = split(case.marked)
    place = Place.at(case.language, before, after)
    shown = postprocess(case.raw, place, Mode(case.mode))
    if shown is None:
        return None
    before = place.prefix[: len(place.prefix) - shown.replace_before]
    return before + shown.text + place.suffix[shown.replace :]


def check(case: Case) -> None:
    assert document_after(case) == case.document


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=f"{name}-{idx}")
        for name, cases in (written_by_hand.GROUPS | hunted.GROUPS).items()
        for idx, case in enumerate(cases)
    ],
)
def test_the_document_that_results(case) -> None:
    check(case)


def method(name: str, body: str) -> str:
    return f"    int {name}() {{\n{body}    }}\n\n"


@pytest.mark.parametrize("is_closed", [True, False])
def test_in_a_long_class_a_method_has_its_closer_once(is_closed) -> None:
    others = "".join(method(f"f{n}", "        return one + two + three;\n" * 5) for n in range(80))
    end = "    }\n" if is_closed else ""
    marked = f"class A {{\n{others}    int f() {{\n        ┃\n{end}\n{others}}}\n"
    assert len(others) > MAX_BEFORE
    shown = postprocess("return 1;\n    }", Place.at("java", *split(marked)), Mode.BLOCK)
    assert shown is not None
    assert shown.text == ("return 1;" if is_closed else "return 1;\n    }")


def test_the_program_runs_cases_in_json(monkeypatch, capsys) -> None:
    cases = [
        {"language": "javascript", "prefix": "f(a, ", "suffix": ")\n", "raw": "b);", "mode": "line"},
        {"language": "javascript", "prefix": "f(a, ", "suffix": ")\n", "raw": "", "mode": "block"},
    ]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(json.dumps(case) for case in cases) + "\n"))
    postprocess_module.main()
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == {"text": "b);", "replace": 1, "replace_before": 0}
    assert second is None


@pytest.mark.parametrize(
    ("raw", "limits", "text"),
    [
        ("a = 1\n    b = 2\n    c = 3", Limits(max_lines=2), "a = 1\n    b = 2"),
        ("a = 1\n    b = 2\n    c = 3", Limits(max_chars=16), "a = 1\n    b = 2"),
        ("# the sum of all items", Limits(max_chars=20), "# the sum of all"),
    ],
)
def test_no_more_is_shown_than_the_settings_allow(raw, limits, text) -> None:
    shown = postprocess(raw, Place.at("python", "def f():\n    ", "\n"), Mode.BLOCK, limits)
    assert shown
    assert shown.text == text


def test_an_editor_that_cannot_overwrite_gets_what_needs_none() -> None:
    shown = postprocess("b) + c(d);", Place.at("javascript", "foo(a, ", ")\n"), Mode.LINE, Limits(overwrites=False))
    assert shown
    assert (shown.text, shown.replace, shown.replace_before) == ("b) + c(d", 0, 0)


_WRITTEN = st.lists(
    st.sampled_from(
        ["a", "b(", ")", "]", "[", "{", "}", "'", '"', ";", ",", ":", " ", "\n", "\n    ", "return x", "if a:", "b.c", "#"]
    ),
    max_size=12,
).map("".join)
_PLACES = st.sampled_from(
    [
        ("python", "def f(a):\n    ┃\n    return x\n"),
        ("python", "x = f(┃)\n"),
        ("python", "x = ['┃']\n"),
        ("javascript", "function f() {\n  ┃\n}\n"),
        ("javascript", "f(a, ┃);\ng();\n"),
        ("javascript", "s.on('data', (d) => {┃})\n"),
        ("go", "func f() {\n\t┃\n}\n"),
        ("json", '{\n  "a": [┃]\n}\n'),
    ]
)


def lines_of(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n") if line.strip()]


@settings(max_examples=300, deadline=None)
@given(_WRITTEN, _PLACES, st.sampled_from([Mode.LINE, Mode.BLOCK]))
def test_whatever_is_written_what_is_shown_fits(written, where, mode) -> None:
    language, marked = where
    before, after = split(marked)
    place = Place.at(language, before, after)
    shown = postprocess(written, place, mode)
    if shown is None:
        return
    assert shown.replace <= len(place.rest)
    assert shown.replace_before <= len(place.head)
    assert "\r" not in shown.text
    assert mode is Mode.BLOCK or "\n" not in shown.text
    document = before[: len(before) - shown.replace_before] + shown.text + after[shown.replace :]
    errors = n_errors(before + after, language)
    if errors == 0:
        assert n_errors(document, language) == 0
    last, *below = lines_of((before + shown.text).split("\n")[-1] + after[shown.replace :])
    if below and any(char.isalpha() for char in below[0]) and place.is_blank:
        assert last != below[0]
    again = postprocess(shown.text, place, mode)
    if not shown.replace:
        assert again
        assert (again.text, again.replace) == (shown.text, 0)
