"""What an editor's settings and edits make of what is judged, over the wire."""

from __future__ import annotations

from tests.lsp_server.wire import URI, texts

END = {"line": 0, "character": 7}


def configure(wire, **values) -> None:
    wire.notify("workspace/didChangeConfiguration", {"settings": {"midfill": values}})


def reason(wire) -> str:
    return wire.ask("midfill/why", {"textDocument": {"uri": URI}})["result"]["reason"]


def test_a_document_that_becomes_private_is_dropped_and_stays_so_until_it_is_opened_again(wire) -> None:
    wire.open("return ")
    assert wire.suggest(END)
    configure(wire, private_globs=["main.*"])
    assert wire.suggest(END) == []
    assert reason(wire) == "private"
    configure(wire)
    assert wire.suggest(END) == []
    wire.open("return ", version=2)
    assert wire.suggest(END)


def test_languages_and_files_are_switched_off_while_the_server_runs(wire) -> None:
    wire.open("return ")
    for values, why in (
        ({"disabled_languages": ["python"]}, "language_off"),
        ({"disabled_globs": ["*.py"]}, "file_off"),
        ({"enabled": False}, "disabled"),
    ):
        configure(wire, **values)
        assert wire.suggest(END) == []
        assert reason(wire) == why
    configure(wire)
    assert texts(wire.suggest(END)) == ["a + b"]


def test_what_was_accepted_and_undone_is_not_offered_back(wire) -> None:
    wire.open("return ")
    assert texts(wire.suggest(END)) == ["a + b"]
    wire.change({"range": {"start": END, "end": END}, "text": "a + b"}, version=2)
    accepted = {"line": 0, "character": 12}
    wire.change({"range": {"start": END, "end": accepted}, "text": ""}, version=3)
    assert wire.suggest(END) == []
    assert reason(wire) == "just_deleted"
    wire.change({"range": {"start": END, "end": END}, "text": "a"}, version=4)
    assert texts(wire.suggest({"line": 0, "character": 8})) == [" + b"]


def test_keys_pasted_into_a_document_without_a_file_make_it_private(wire) -> None:
    uri = "untitled:Untitled-1"
    wire.open("return ", uri=uri, language="plaintext")
    assert wire.suggest(END, uri=uri)
    wire.change({"text": "API_KEY=abc\nDB_PASSWORD=def\n"}, uri=uri, version=2)
    assert wire.suggest({"line": 2, "character": 0}, uri=uri) == []
    assert wire.ask("midfill/why", {"textDocument": {"uri": uri}})["result"]["reason"] == "private"
