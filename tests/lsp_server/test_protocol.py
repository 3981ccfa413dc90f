"""Messages in and out: every request is answered exactly once, whatever it holds, and types are converted truly."""

from __future__ import annotations

import asyncio
import io
import json
from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lsp_server.server import MidfillServer
from lsp_server.settings import Settings
from lsp_server.stdio import Frames, Writer
from lsp_server.tracing import Tracer

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


def test_a_reply_does_not_wait_for_its_line_in_the_log(script, caplog) -> None:
    caplog.set_level("INFO")
    place = {"textDocument": {"uri": URI}, "position": PLACE, "context": {"triggerKind": 2}}
    ask = {"jsonrpc": "2.0", "id": "ask", "method": "textDocument/inlineCompletion", "params": place}
    n_lines: dict[str, int] = {}

    def note(data: bytes) -> None:
        message = json.loads(data.partition(b"\r\n\r\n")[2])
        n_lines[str(message.get("id"))] = caplog.text.count("suggest v=1")

    async def whole() -> None:
        server = MidfillServer(Settings(engine="scripted", script=script), version="0", tracer=Tracer())
        server.protocol.set_writer(Writer(io.BytesIO(), lambda: None, note))
        for message in (INITIALIZE, OPEN, ask):
            server.protocol.receive(json.dumps(message).encode())
        while "ask" not in n_lines:
            await asyncio.sleep(0)
        await server.aclose()

    asyncio.run(whole())
    assert (n_lines["ask"], caplog.text.count("suggest v=1")) == (0, 1)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(MESSAGES, st.booleans()) | st.tuples(VALUES, st.just(False)), max_size=8))
def test_no_message_stops_the_server_and_every_request_is_answered_once(script, messages) -> None:
    sent = [INITIALIZE, OPEN]
    for n, (message, is_request) in enumerate(messages):
        sent.append({**message, "id": f"request {n}"} if is_request else message)
    requests = [f"request {n}" for n, (message, is_request) in enumerate(messages) if is_request and "method" in message]
    replied = [each["id"] for each in converse(script, sent) if "method" not in each]
    assert Counter(each for each in replied if str(each).startswith("request")) == Counter(requests)
