"""Documents that no editor should send, and the server that serves them all the same."""

from __future__ import annotations

import pytest

from tests.lsp_server.places import CURSOR
from tests.lsp_server.wire import URI, assert_still_answers, texts

ORIGIN = {"line": 0, "character": 0}


HOSTILE_TEXTS = [
    "\ud83d",
    "\ude00\ud83d",
    "\x00" * 100,
    "\r\n\r\r\n\n\r",
    "\x0c\x0b\x1c\x1d\x1e\x85\u2028\u2029",
    "<fim_middle>" * 50,
]


@pytest.mark.parametrize("text", HOSTILE_TEXTS, ids=ascii)
def test_a_hostile_text_is_suggested_in_like_any_other(shared_wire, text) -> None:
    assert texts(shared_wire.suggest_at(f"{text} return {CURSOR}\n{text}")) == ["a + b"]
    assert_still_answers(shared_wire)


def test_halves_of_a_character_that_arrive_apart_are_joined(shared_wire) -> None:
    shared_wire.open("return \n")
    for column, half in ((0, "\ud83d"), (1, "\ude00")):
        cursor = {"line": 0, "character": column}
        shared_wire.change({"range": {"start": cursor, "end": cursor}, "text": half}, version=2 + column)
    cursor = {"line": 0, "character": 9}
    [item] = shared_wire.suggest(cursor)
    assert (item["insertText"], item["range"]) == ("a + b", {"start": cursor, "end": cursor})


@pytest.mark.parametrize("text", ["x = 1\n" * 900_000, "x" * 10_000_000], ids=["5 MB", "a 10 MB line"])
def test_a_giant_document_is_edited_and_suggested_in(wire, text) -> None:
    wire.open(text + "\n")
    end = {"line": text.count("\n") + (text[-1] != "\n"), "character": 0}
    wire.change({"range": {"start": end, "end": end}, "text": "return "})
    assert texts(wire.suggest({"line": end["line"], "character": 7})) == ["a + b"]
    middle = {"line": 0, "character": len(text.partition("\n")[0]) // 2}
    wire.change({"range": {"start": middle, "end": middle}, "text": "return "})
    wire.suggest({"line": 0, "character": middle["character"] + 7})
    assert_still_answers(wire)


PAST_THE_END = [{"line": 99, "character": 0}, {"line": 0, "character": 99}, {"line": 2**31 - 1, "character": 2**31 - 1}]


@pytest.mark.parametrize("position", PAST_THE_END)
def test_a_position_past_the_end_is_the_end(shared_wire, position) -> None:
    shared_wire.open("return ")
    end = {"line": 0, "character": 7}
    [item] = shared_wire.suggest(position)
    assert (item["insertText"], item["range"]) == ("a + b", {"start": end, "end": end})
    shared_wire.change({"range": {"start": position, "end": position}, "text": "x; return "})
    assert texts(shared_wire.suggest(position)) == ["a + b"]


def test_an_unknown_document_has_no_suggestions(shared_wire) -> None:
    assert shared_wire.suggest(ORIGIN, uri="file:///never/opened.py") == []
    shared_wire.change({"range": {"start": ORIGIN, "end": ORIGIN}, "text": "x"}, uri="file:///never/opened.py")
    shared_wire.notify("textDocument/didClose", {"textDocument": {"uri": "file:///never/opened.py"}})
    assert_still_answers(shared_wire)


def test_a_whole_text_for_an_unknown_document_opens_it(shared_wire) -> None:
    shared_wire.change({"text": "return "}, uri="file:///lost.py")
    assert texts(shared_wire.suggest({"line": 0, "character": 7}, uri="file:///lost.py")) == ["a + b"]


def test_a_second_open_and_an_older_version_are_taken_as_they_come(shared_wire) -> None:
    shared_wire.open("something else", version=7)
    shared_wire.open("return", version=7)
    cursor = {"line": 0, "character": 6}
    shared_wire.change({"range": {"start": cursor, "end": cursor}, "text": " "}, version=3)
    assert texts(shared_wire.suggest({"line": 0, "character": 7})) == ["a + b"]


def test_a_document_whose_change_cannot_be_read_is_silent_until_it_is_opened_again(shared_wire) -> None:
    shared_wire.open("return \n")
    document = {"uri": URI, "version": 2}
    shared_wire.notify("textDocument/didChange", {"textDocument": document, "contentChanges": [{"range": 1, "text": "x"}]})
    assert shared_wire.suggest({"line": 0, "character": 7}) == []
    shared_wire.open("return \n")
    assert texts(shared_wire.suggest({"line": 0, "character": 7})) == ["a + b"]


@pytest.mark.parametrize("method", ["textDocument/didChange", "notebookDocument/didChange"])
def test_a_request_in_a_change_s_name_changes_nothing(shared_wire, method) -> None:
    shared_wire.open("return \n")
    assert "error" in shared_wire.ask(method, [{"uri": URI}])
    assert texts(shared_wire.suggest({"line": 0, "character": 7})) == ["a + b"]


@pytest.mark.parametrize(
    "uri", ["file:///project/.env", "file:///project/%2Eenv.local", "untitled:.env", "file:///home/me/.ssh/config"]
)
def test_a_secret_file_gets_nothing_and_keeps_nothing(shared_wire, uri) -> None:
    before = shared_wire.ask("midfill/status", {})["result"]["last"]
    assert shared_wire.suggest_at(f"return {CURSOR}\n", uri=uri) == []
    shared_wire.change({"text": "return "}, uri=uri)
    assert shared_wire.suggest({"line": 0, "character": 7}, uri=uri) == []
    assert shared_wire.ask("midfill/status", {})["result"]["last"] == before
