"""Messages in and out: every request is answered exactly once, whatever it holds, and types are converted truly."""

from __future__ import annotations

import asyncio
import io
import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lsprotocol import types

from lsp_server.documents import Change, Document
from lsp_server.protocol import changes_from, encoding_of, is_invoked, make_converter, to_list
from lsp_server.server import MidfillServer
from lsp_server.settings import Settings
from lsp_server.stdio import Frames, Writer
from lsp_server.suggestions import Suggestion
from lsp_server.text import Encoding, Position, Text
from lsp_server.tracing import Tracer
from tests.lsp_server.places import cursor_after, split

URI = "file:///a.py"


def converse(script: str, messages: list[Any]) -> list[dict[str, Any]]:
    """Gives all that the server says to some messages, once nothing is left to do."""
    said = io.BytesIO()

    async def whole() -> None:
        server = MidfillServer(Settings(engine="scripted", script=script), version="0", tracer=Tracer())
        server.protocol.set_writer(Writer(said, lambda: None))
        for message in messages:
            server.protocol.receive(json.dumps(message).encode())
            await asyncio.sleep(0)
        await server.aclose()
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)

    asyncio.run(whole())
    return [json.loads(body) for body in Frames().feed(said.getvalue())]


INITIALIZE = {"jsonrpc": "2.0", "id": "init", "method": "initialize", "params": {"capabilities": {}, "processId": None}}
OPEN = {
    "jsonrpc": "2.0",
    "method": "textDocument/didOpen",
    "params": {"textDocument": {"uri": URI, "languageId": "python", "version": 1, "text": "return \n"}},
}
PLACE = {"line": 0, "character": 7}
GOOD_PARAMS: list[Any] = [
    {},
    {"textDocument": {"uri": URI}, "position": PLACE, "context": {"triggerKind": 2}},
    {"textDocument": {"uri": URI, "version": 2}, "contentChanges": [{"text": "x", "range": {"start": PLACE, "end": PLACE}}]},
    {"textDocument": {"uri": URI}},
    {"settings": {"midfill": {"enabled": True}}},
    {"id": 1},
]
KEYS = ["textDocument", "uri", "position", "line", "id", "context", "contentChanges", "jsonrpc", "method"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 9) | st.just(0.5) | st.sampled_from(["", "x", URI, "2.0", "\ud83d"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                ["textDocument", "uri", "position", "line", "id", "context", "contentChanges", "jsonrpc", "method"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
METHODS = [
    "textDocument/inlineCompletion",
    "textDocument/didChange",
    "textDocument/didClose",
    "midfill/status",
    "$/cancelRequest",
    "workspace/didChangeConfiguration",
    "nonsense",
]
MESSAGES = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0")},
    optional={
        "method": st.sampled_from(METHODS) | st.sampled_from(["initialize", "initialized", "shutdown"]) | VALUES,
        "params": st.sampled_from(GOOD_PARAMS) | VALUES,
        "result": VALUES,
        "error": VALUES,
    },
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(MESSAGES, st.booleans()) | st.tuples(VALUES, st.just(False)), max_size=8))
def test_no_message_stops_the_server_and_every_request_is_answered_once(script, messages) -> None:
    sent = [INITIALIZE, OPEN]
    for n, (message, is_request) in enumerate(messages):
        sent.append({**message, "id": f"request {n}"} if is_request else message)
    requests = [f"request {n}" for n, (message, is_request) in enumerate(messages) if is_request and "method" in message]
    replied = [each["id"] for each in converse(script, sent) if "method" not in each]
    assert Counter(each for each in replied if str(each).startswith("request")) == Counter(requests)


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
    read = make_converter().structure(params, types.DidChangeTextDocumentParams)
    assert changes_from(read) == [Change("x", Position(1, 2), Position(1, 2)), Change("whole")]


@pytest.mark.parametrize(("kind", "invoked"), [(0, True), (1, True), (2, False)])
def test_a_trigger_kind_is_read_as_its_client_means_it(kind, invoked) -> None:
    params = {"textDocument": {"uri": URI}, "position": PLACE, "context": {"triggerKind": kind}}
    assert is_invoked(make_converter().structure(params, types.InlineCompletionParams)) is invoked


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
