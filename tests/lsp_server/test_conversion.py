"""Types in and out of LSP's: nothing is lost on the way, and positions are in the client's units."""

from __future__ import annotations

import pytest
from lsprotocol import types
from pygls.protocol import default_converter

from lsp_server.conversion import changes_from, encoding_of, to_list
from lsp_server.documents import Change, Document
from lsp_server.suggestions import Suggestion
from lsp_server.text import Encoding, Position, Text
from tests.lsp_server.places import cursor_after, split

URI = "file:///a.py"


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["utf-8", "utf-16"], Encoding.UTF_8),
        (["utf-32"], Encoding.UTF_32),
        (["utf-16", "utf-8"], Encoding.UTF_16),
        (["utf-7"], Encoding.UTF_16),
        ([], Encoding.UTF_16),
        (None, Encoding.UTF_16),
    ],
)
def test_the_encoding_is_the_first_offered_that_is_known(offered, chosen) -> None:
    general = types.GeneralClientCapabilities(position_encodings=offered)
    assert encoding_of(types.ClientCapabilities(general=general)) is chosen
    assert encoding_of(types.ClientCapabilities()) is Encoding.UTF_16


def test_changes_come_in_order_with_a_range_or_as_a_whole_text() -> None:
    place = {"line": 1, "character": 2}
    changes = [{"range": {"start": place, "end": place}, "rangeLength": 99, "text": "x"}, {"text": "whole"}]
    params = {"textDocument": {"uri": URI, "version": 2}, "contentChanges": changes}
    read = default_converter().structure(params, types.DidChangeTextDocumentParams)
    assert changes_from(read.content_changes) == [Change("x", Position(1, 2), Position(1, 2)), Change("whole")]


@pytest.mark.parametrize("encoding", Encoding)
def test_an_item_stands_at_the_cursor_in_the_clients_units(encoding) -> None:
    before, after = split("é\r\n😀 = ┃\n")
    document = Document(uri=URI, language="python", version=1, text=Text.of(before + after, encoding))
    [item] = to_list(document, (Suggestion("7", "1", len(before)),)).items
    place = types.Position(**cursor_after(before, encoding))
    assert (item.insert_text, item.range) == ("1", types.Range(place, place))
    assert item.command == types.Command(title="", command="midfill.didAccept", arguments=[{"id": "7"}])


def test_no_suggestion_is_an_empty_list() -> None:
    assert to_list(None, ()) == types.InlineCompletionList(items=[])
