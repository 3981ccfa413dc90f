"""What the user's settings make of a place and of an answer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lsp_server.confidence import Thresholds
from lsp_server.documents import Document, Query
from lsp_server.judgement import judge, mode_at, place_at, thresholds, why_off
from lsp_server.settings import Settings
from lsp_server.suggestions import Completion
from lsp_server.text import Text
from lsp_server.trigger import Mode
from lsp_server.verdict import Reason
from tests.lsp_server.places import prompt_at, split

SETTINGS = Settings()
FITTED = Thresholds(-2.0, -1.0)


def query(marked: str, language: str = "python", *, invoked: bool = False, uri: str = "file:///p/a.py") -> Query:
    before, after = split(marked)
    document = Document(uri=uri, language=language, version=1, text=Text.of(before + after))
    return Query(document, len(before), invoked)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (SETTINGS, None),
        (Settings(enabled=False), Reason.DISABLED),
        (Settings(disabled_languages=("python",)), Reason.LANGUAGE_OFF),
        (Settings(enabled_languages=("go", "rust")), Reason.LANGUAGE_OFF),
        (Settings(enabled_languages=("python",)), None),
        (Settings(disabled_globs=("*.py",)), Reason.FILE_OFF),
        (Settings(disabled_globs=("p/",)), Reason.FILE_OFF),
        (Settings(disabled_globs=("*.js", "q/*.py")), None),
    ],
)
def test_languages_and_files_are_switched_off(settings, reason) -> None:
    off = why_off(query("x = ┃").document, settings)
    assert (off and off.reason) is reason


def test_a_private_document_names_its_rule() -> None:
    document = replace(query("x = ┃", uri="file:///p/.env").document, private=True)
    off = why_off(document, SETTINGS)
    assert off
    assert off.reason is Reason.PRIVATE
    assert ".env" in off.detail


def test_one_line_is_all_that_is_asked_for_where_the_user_wants_no_more() -> None:
    at = query("def f():\n    ┃\n")
    assert mode_at(place_at(at), at, SETTINGS) is Mode.BLOCK
    assert mode_at(place_at(at), at, Settings(max_lines=1)) is Mode.LINE


@pytest.mark.parametrize(
    ("settings", "invoked", "held_to"),
    [
        (SETTINGS, False, FITTED),
        (SETTINGS, True, None),
        (Settings(gate=False), False, None),
        (Settings(gate_min_logprob=-5.0), False, Thresholds(-5.0, -1.0)),
        (Settings(gate_mean_logprob=-0.5), False, Thresholds(-2.0, -0.5)),
    ],
)
def test_the_gate_is_the_model_s_unless_the_user_sets_another_or_asks_by_hand(settings, invoked, held_to) -> None:
    assert thresholds(FITTED, query("x = ┃", invoked=invoked), settings) == held_to


@pytest.mark.parametrize(
    ("text", "logprobs", "shown", "reason", "detail"),
    [
        ("sum(a)", (-0.1,), ("sum(a)",), Reason.SHOWN, ""),
        ("sum(a)", (-3.0,), (), Reason.LOW_CONFIDENCE, "-3.00"),
        ("", (), (), Reason.NOTHING_WRITTEN, ""),
        ("print(x)", (-0.1,), (), Reason.FILTERED, "cut_next_lines"),
        ("a b c (", (-0.1,), (), Reason.FILTERED, "guard"),
    ],
)
def test_the_verdict_names_what_left_nothing(text, logprobs, shown, reason, detail) -> None:
    completion = Completion("1", prompt_at("┃\nprint(x)\n"), text, logprobs, (len(text),) * len(logprobs))
    judged = judge((completion,), place_at(query("┃\nprint(x)\n")), FITTED, SETTINGS)
    assert tuple(each.text for each in judged.choices) == shown
    assert judged.verdict.reason is reason
    assert detail in judged.verdict.detail


def test_alternatives_that_look_alike_are_shown_once() -> None:
    prompt = prompt_at("x = ┃\n")
    choices = tuple(Completion(str(idx), prompt, text) for idx, text in enumerate(("a", " a", "b")))
    assert [each.text for each in judge(choices, place_at(query("x = ┃\n")), None, SETTINGS).choices] == ["a", "b"]


def test_a_place_is_read_from_more_of_the_document_than_its_windows_hold() -> None:
    docstring = '    """\n' + "    (It's one [of many.\n" * 400 + '    """\n'
    place = place_at(query(f"import os\n\n\ndef f():\n{docstring}    x = ┃\n"))
    assert (place.inside, place.brackets) == ("", ())


def test_a_very_long_document_is_read_from_a_definition_on() -> None:
    docstring = '    """\n' + "    It's one [of many.\n" * 1000 + '    """\n'
    place = place_at(query(f"def f():\n{docstring}    pass\n\n\ndef g():\n    x = [┃]\n"))
    assert (place.inside, [each.text for each in place.brackets]) == ("", ["["])


def test_what_is_read_before_the_cursor_begins_at_the_same_place_at_nearly_every_key() -> None:
    method = "    def total(self, items):\n        return sum(items)\n\n"
    before, typed = "class Long:\n" + method * 700 + "    # ", "what stands here is read again at each key " * 5
    starts = set()
    for n in range(len(typed)):
        place = place_at(query(before + typed[:n] + "┃\n" + method * 300))
        assert before.endswith(place.prefix[: len(place.prefix) - n])
        starts.add(len(before) + n - len(place.prefix))
    assert len(starts) <= 2
