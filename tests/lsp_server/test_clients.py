"""Editors' own ways, one test each: by the name that they give, and what they announce."""

from __future__ import annotations

from typing import Any

import pytest

from lsp_server.clients import AUTOMATIC, INVOKED, Client, TriggerKinds
from tests.lsp_server.places import CURSOR
from tests.lsp_server.wire import URI, Wire, texts

VSCODE, NEOVIM = Client("Visual Studio Code"), Client("Neovim")
INLINE = {"textDocument": {"inlineCompletion": {"dynamicRegistration": True}}}

KINDS = [
    (NEOVIM, [1, 2, 1], [INVOKED, AUTOMATIC, INVOKED]),
    (VSCODE, [2, 1, 2], [AUTOMATIC, INVOKED, AUTOMATIC]),  # vscode-languageclient 10 and newer
    (VSCODE, [1, 1, 0, 1], [AUTOMATIC, AUTOMATIC, INVOKED, AUTOMATIC]),  # 9 passes VS Code's own numbers on
    (Client("Other"), [1, 0, 1], [INVOKED, INVOKED, AUTOMATIC]),
    (Client("VSCodium"), [0, 1], [INVOKED, AUTOMATIC]),
    (NEOVIM, [9, "x", None, True], [9, "x", None, True]),
]


@pytest.mark.parametrize(("client", "kinds", "wanted"), KINDS)
def test_trigger_kinds_are_read_as_their_client_means_them(client, kinds, wanted) -> None:
    reader = TriggerKinds(client)
    assert [reader.read(kind) for kind in kinds] == wanted


@pytest.mark.parametrize(
    ("name", "waits"),
    [("Neovim", True), ("Visual Studio Code - Insiders", True), ("Eglot", True), ("emacs", True), ("Zed", False), ("", False)],
)
def test_who_waits_for_the_typing_to_rest_is_not_made_to_wait_again(name, waits) -> None:
    assert Client(name).waits is waits


def start(serve, name: str, capabilities: dict[str, Any], **options: Any) -> tuple[Wire, dict[str, Any]]:
    wire = serve()
    info = {"clientInfo": {"name": name}} if name else {}
    result = wire.start(capabilities=capabilities, initializationOptions=options, **info)
    return wire, result["capabilities"]


FALLBACK = [
    ("Helix", {}, {}, True),
    ("Neovim", INLINE, {}, False),
    ("emacs", {}, {}, False),  # lsp-mode asks for inline completions without announcing them
    ("Neovim", INLINE, {"completion_fallback": "on"}, True),
    ("Helix", {}, {"completion_fallback": "off"}, False),
]


@pytest.mark.parametrize(("name", "capabilities", "options", "offered"), FALLBACK)
def test_the_completion_menu_is_used_where_there_is_no_ghost_text(serve, name, capabilities, options, offered) -> None:
    wire, announced = start(serve, name, capabilities, **options)
    # Vim's ALE takes empty options for no offer.
    assert bool(announced.get("completionProvider")) is offered
    assert "inlineCompletionProvider" in announced  # lsp-mode looks for it
    wire.open("x = return \n")
    answer = wire.ask("textDocument/completion", {"textDocument": {"uri": URI}, "position": {"line": 0, "character": 11}})
    assert ("result" in answer) is offered


def test_a_menu_item_begins_with_the_word_at_the_cursor_and_is_asked_for_again_at_each_key(serve) -> None:
    wire, _ = start(serve, "Helix", {})
    wire.open("😀 = don\n")
    at = {"line": 0, "character": 8}
    result = wire.ask("textDocument/completion", {"textDocument": {"uri": URI}, "position": at})["result"]
    assert result["isIncomplete"] is True
    [item] = result["items"]
    assert item["textEdit"] == {
        "range": {"start": {"line": 0, "character": 5}, "end": at},
        "newText": item["filterText"],
    }
    assert item["filterText"].startswith("don")
    assert item["insertTextFormat"] == 1
    assert item["command"]["command"] == "midfill.didAccept"


def ask_selected(wire: Wire, selected: dict[str, Any], character: int = 10) -> list[dict[str, Any]]:
    context = {"triggerKind": 2, "selectedCompletionInfo": selected}
    params = {"textDocument": {"uri": URI}, "position": {"line": 0, "character": character}, "context": context}
    items: list[dict[str, Any]] = wire.ask("textDocument/inlineCompletion", params)["result"]["items"]
    return items


def between(start: int, end: int, line: int = 0) -> dict[str, Any]:
    return {"start": {"line": line, "character": start}, "end": {"line": line, "character": end}}


def test_with_an_item_of_the_menu_selected_a_suggestion_goes_on_behind_it_in_its_range(serve) -> None:
    wire, _ = start(serve, "Visual Studio Code", INLINE)
    wire.open("x = 1; rtn\n")
    [item] = ask_selected(wire, {"range": between(7, 10), "text": "return "})
    assert (item["insertText"], item["range"], item["filterText"]) == ("return a + b", between(7, 10), "rtna + b")


@pytest.mark.parametrize("at", [between(0, 3), between(0, 3, line=1), {**between(7, 10), "end": {"line": 1, "character": 0}}])
def test_a_selection_that_does_not_apply_at_the_cursor_is_ignored(serve, at) -> None:
    wire, _ = start(serve, "Visual Studio Code", INLINE)
    wire.open("x = return \n\n")
    [item] = ask_selected(wire, {"range": at, "text": "other "}, character=11)
    assert (item["insertText"], item["range"]) == ("a + b", between(11, 11))


def test_neovim_is_answered_with_a_list_whatever_happens(serve) -> None:
    wire, _ = start(serve, "Neovim", INLINE)
    assert wire.suggest({"line": 0, "character": 0}) == []  # not open
    assert wire.suggest_at(f"broken {CURSOR}\n") == []  # the engine fails
    for item in wire.suggest_at(f"return {CURSOR}\r\n"):
        assert isinstance(item["insertText"], str)
        assert "\r" not in item["insertText"]
        assert item["range"]["start"] == item["range"]["end"]


def test_on_demand_there_are_alternatives_and_by_itself_one(serve) -> None:
    wire, _ = start(serve, "Neovim", INLINE)
    assert len(wire.suggest_at(f"return {CURSOR}\n")) == 1
    assert texts(wire.suggest({"line": 0, "character": 7}, kind=1)) == ["a + b"]  # the script's are all alike: each once


CELLS = [("vscode-notebook-cell:/project/a.ipynb#W0", "x = return \n"), ("vscode-notebook-cell:/project/a.ipynb#W1", "")]


def test_cells_of_a_notebook_are_documents(serve) -> None:
    wire, announced = start(serve, "Visual Studio Code", {**INLINE, "notebookDocument": {"synchronization": {}}})
    assert announced["notebookDocumentSync"]["notebookSelector"] == [{"notebook": "*"}]
    items = [{"uri": uri, "languageId": "python", "version": 1, "text": text} for uri, text in CELLS]
    notebook = {"uri": "file:///project/a.ipynb", "notebookType": "jupyter-notebook", "version": 1, "cells": []}
    wire.notify("notebookDocument/didOpen", {"notebookDocument": notebook, "cellTextDocuments": items})
    assert texts(wire.suggest({"line": 0, "character": 11}, uri=CELLS[0][0])) == ["a + b"]
    edit = {"range": between(0, 0), "text": "return "}
    third = {"uri": "vscode-notebook-cell:/project/a.ipynb#W2", "languageId": "python", "version": 1, "text": "return "}
    cells = {
        "structure": {"array": {"start": 2, "deleteCount": 0}, "didOpen": [third], "didClose": [{"uri": CELLS[0][0]}]},
        "textContent": [{"document": {"uri": CELLS[1][0], "version": 2}, "changes": [edit]}],
    }
    changed = {"notebookDocument": {"uri": notebook["uri"], "version": 2}, "change": {"cells": cells}}
    wire.notify("notebookDocument/didChange", changed)
    answers = [wire.suggest({"line": 0, "character": 7}, uri=uri) for uri in (CELLS[0][0], CELLS[1][0], third["uri"])]
    assert [texts(each) for each in answers] == [[], ["a + b"], ["a + b"]]
    closed = {"notebookDocument": {"uri": notebook["uri"]}, "cellTextDocuments": [{"uri": CELLS[1][0]}]}
    wire.notify("notebookDocument/didClose", closed)
    assert wire.suggest({"line": 0, "character": 7}, uri=CELLS[1][0]) == []


def test_a_change_of_a_notebook_that_cannot_be_read_loses_its_cells(serve) -> None:
    wire, _ = start(serve, "Visual Studio Code", INLINE)
    wire.open("return \n")
    broken = {"cells": {"textContent": [{"document": {"uri": URI, "version": 2}, "changes": [{"range": 7}]}]}}
    wire.notify("notebookDocument/didChange", {"notebookDocument": {"uri": "file:///a.ipynb", "version": 2}, "change": broken})
    assert wire.suggest({"line": 0, "character": 7}) == []
