"""The store: what opens, changes and closes do, in and out of order."""

from __future__ import annotations

import pytest

from lsp_server.documents import Change, DocumentStore
from lsp_server.text import Position

URI = "file:///x.py"


@pytest.fixture
def store() -> DocumentStore:
    return DocumentStore(lambda uri, language, text: uri.endswith(".env"))


def insert(line: int, character: int, text: str) -> Change:
    return Change(text, Position(line, character), Position(line, character))


def test_changes_apply_in_order_and_make_a_new_snapshot(store) -> None:
    old = store.open(URI, version=1, text="ab\n")
    new = store.change(URI, version=2, changes=[insert(0, 2, "c"), insert(0, 3, "d")])
    assert (str(old.text), str(new.text), new.version) == ("ab\n", "abcd\n", 2)
    assert store.get(URI) is new


def test_an_edit_before_the_open_is_ignored_and_a_whole_text_is_an_open(store) -> None:
    assert store.change(URI, version=2, changes=[insert(0, 0, "x")]) is None
    assert store.get(URI) is None
    assert str(store.change(URI, version=3, changes=[Change("whole")]).text) == "whole"


def test_a_second_open_replaces_the_text(store) -> None:
    store.open(URI, version=1, text="old")
    assert str(store.open(URI, version=1, text="new").text) == "new"


def test_a_version_that_goes_backwards_still_applies(store, caplog) -> None:
    store.open(URI, version=5, text="a")
    assert str(store.change(URI, version=2, changes=[insert(0, 1, "b")]).text) == "ab"
    assert "from version 5 to 2" in caplog.text


def test_a_lost_document_has_no_text_until_the_whole_of_it_comes(store) -> None:
    store.open(URI, version=1, text="a")
    store.lose(URI)
    assert store.change(URI, version=3, changes=[insert(0, 0, "b")]) is None
    assert str(store.change(URI, version=4, changes=[Change("ba")]).text) == "ba"


def test_a_private_document_never_holds_text(store) -> None:
    private = store.open("file:///.env", version=1, text="KEY=1")
    edited = store.change(private.uri, version=2, changes=[Change("KEY=2"), insert(0, 0, "A")])
    assert (str(private.text), str(edited.text), edited.private) == ("", "", True)


def test_a_close_of_an_unknown_document_is_ignored(store) -> None:
    store.close(URI)
    store.open(URI, text="a")
    store.close(URI)
    assert store.get(URI) is None
