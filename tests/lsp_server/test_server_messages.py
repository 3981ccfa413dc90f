"""Messages that are not as they should be: each is answered or ignored, and the server goes on."""

from __future__ import annotations

import pytest

from tests.lsp_server.wire import URI, assert_still_answers

CANCELLED, METHOD_NOT_FOUND, INVALID_PARAMS = -32800, -32601, -32602
INVALID_REQUEST, PARSE_ERROR, NOT_INITIALIZED = -32600, -32700, -32002
PATIENT = {"deadline_ms": 60_000}
ORIGIN = {"line": 0, "character": 0}


DOCUMENT = {"textDocument": {"uri": URI}}
UNDECODABLE = [
    ("textDocument/inlineCompletion", {}, INVALID_PARAMS),
    ("textDocument/inlineCompletion", None, INVALID_PARAMS),
    ("textDocument/inlineCompletion", [1, 2], INVALID_PARAMS),
    ("textDocument/inlineCompletion", "text", INVALID_PARAMS),
    ("textDocument/inlineCompletion", {**DOCUMENT, "position": ORIGIN}, INVALID_PARAMS),
    ("textDocument/inlineCompletion", {**DOCUMENT, "position": {"line": "x"}, "context": {"triggerKind": 1}}, INVALID_PARAMS),
    (
        "textDocument/inlineCompletion",
        {**DOCUMENT, "position": {"line": -1, "character": 0}, "context": {"triggerKind": 1}},
        INVALID_PARAMS,
    ),
    ("textDocument/inlineCompletion", {**DOCUMENT, "position": ORIGIN, "context": {"triggerKind": 9}}, INVALID_PARAMS),
    ("textDocument/inlineCompletion", {"textDocument": {"uri": 7}, "position": ORIGIN, "context": {}}, INVALID_PARAMS),
    ("midfill/nothing", {}, METHOD_NOT_FOUND),
    ("textDocument/hover", {**DOCUMENT, "position": ORIGIN}, METHOD_NOT_FOUND),
    ("", {}, METHOD_NOT_FOUND),
    ("initialize", {"processId": None, "rootUri": None, "capabilities": {}}, INVALID_REQUEST),
]


@pytest.mark.parametrize(("method", "params", "code"), UNDECODABLE, ids=str)
def test_a_request_that_cannot_be_served_is_answered_with_an_error(shared_wire, method, params, code) -> None:
    error = shared_wire.ask(method, params)["error"]
    assert error["code"] == code
    assert error["message"]
    assert_still_answers(shared_wire)


BROKEN_NOTIFICATIONS = [
    ("textDocument/didOpen", {}),
    ("textDocument/didOpen", {"textDocument": {"uri": URI, "languageId": "x", "version": 1, "text": None}}),
    ("textDocument/didChange", None),
    ("textDocument/didChange", {"textDocument": [], "contentChanges": []}),
    ("textDocument/didChange", {"textDocument": {"uri": URI, "version": 1}, "contentChanges": []}),
    ("textDocument/didClose", {"textDocument": {}}),
    ("notebookDocument/didOpen", {}),
    ("$/cancelRequest", {"id": "nobody"}),
    ("$/cancelRequest", {"id": [1]}),
    ("$/cancelRequest", {}),
    ("$/unknown", {"any": "thing"}),
    ("workspace/didChangeConfiguration", {"settings": {"midfill": "x"}}),
    ("workspace/didChangeConfiguration", {"settings": [1]}),
    ("workspace/didChangeConfiguration", {}),
    ("workspace/didChangeWatchedFiles", {"changes": []}),
    ("$/setTrace", {"value": "verbose"}),
    ("window/workDoneProgress/cancel", {"token": 1}),
    ("initialized", {}),
]


@pytest.mark.parametrize(("method", "params"), BROKEN_NOTIFICATIONS, ids=str)
def test_a_notification_that_cannot_be_read_changes_nothing(shared_wire, method, params) -> None:
    shared_wire.notify(method, params)
    assert_still_answers(shared_wire)


def request_body(msg_id: int) -> bytes:
    return b'{"jsonrpc":"2.0","id":%d,"method":"midfill/status","params":{}}' % msg_id


NOT_MESSAGES = [
    (b"{", PARSE_ERROR),
    (b"", PARSE_ERROR),
    (b"\xff\xfe\x00", PARSE_ERROR),
    (b"[" * 100_000, PARSE_ERROR),
    (b'{"a":' * 100_000, PARSE_ERROR),
    (b"9" * 5000, PARSE_ERROR),
    (b"[]", INVALID_REQUEST),
    (b"[" + request_body(1) + b"]", INVALID_REQUEST),
    (b"null", INVALID_REQUEST),
    (b'"text"', INVALID_REQUEST),
    (b"{}", INVALID_REQUEST),
    (b'{"jsonrpc":"1.0","method":"x"}', INVALID_REQUEST),
    (b'{"jsonrpc":"2.0","id":[1],"method":"x"}', INVALID_REQUEST),
    (b'{"jsonrpc":"2.0","id":null,"method":"x"}', INVALID_REQUEST),
    (b'{"jsonrpc":"2.0","id":1.5,"method":"x"}', INVALID_REQUEST),
    (b'{"jsonrpc":"2.0","id":true,"method":"x"}', INVALID_REQUEST),
]


@pytest.mark.parametrize(("body", "code"), NOT_MESSAGES, ids=lambda value: str(value)[:40])
def test_a_body_that_is_no_message_is_answered_with_an_error_for_nobody(shared_wire, body, code) -> None:
    shared_wire.send_raw(b"Content-Length: %d\r\n\r\n" % len(body) + body)
    assert shared_wire.reply(None)["error"]["code"] == code
    assert_still_answers(shared_wire)


BROKEN_REQUESTS = [
    {"id": "r", "method": "midfill/status"},
    {"jsonrpc": 2, "id": "r", "method": "midfill/status"},
    {"jsonrpc": "2.0", "id": "r", "method": 7},
    {"jsonrpc": "2.0", "id": "r", "method": ["x"]},
]


@pytest.mark.parametrize("message", BROKEN_REQUESTS, ids=str)
def test_a_broken_request_is_answered_by_its_id(shared_wire, message) -> None:
    shared_wire.send(message)
    assert shared_wire.reply("r")["error"]["code"] == INVALID_REQUEST
    assert_still_answers(shared_wire)


STRAY_REPLIES = [
    {"id": 12345, "result": None},
    {"id": [1], "result": None},
    {"id": {}, "error": {"code": 1, "message": "x"}},
    {"id": None, "result": 1},
    {"id": "x", "error": "text"},
    {"id": "x"},
    {},
]


@pytest.mark.parametrize("message", STRAY_REPLIES, ids=str)
def test_a_reply_to_nothing_is_ignored(shared_wire, message) -> None:
    shared_wire.send({"jsonrpc": "2.0", **message})
    assert_still_answers(shared_wire)


@pytest.mark.parametrize("answer", [{"result": None}, {"error": {"code": 1, "message": "x"}}], ids=str)
def test_a_reply_that_bears_the_id_of_a_running_request_does_not_end_it(serve, answer) -> None:
    wire = serve()
    wire.start(initializationOptions=PATIENT)
    wire.open("slow \n")
    msg_id = wire.request_suggestion({"line": 0, "character": 5})
    wire.send({"jsonrpc": "2.0", "id": msg_id, **answer})
    assert_still_answers(wire)
    wire.notify("$/cancelRequest", {"id": msg_id})
    assert wire.reply(msg_id)["error"]["code"] == CANCELLED


def test_a_nested_jsonrpc_key_is_data(shared_wire) -> None:
    reply = shared_wire.ask("midfill/status", {"inner": {"jsonrpc": "2.0", "id": 1, "method": "exit"}})
    assert reply["result"]["state"] == "ready"


GARBAGE = [
    b"hello\r\n\r\n",
    b"hello",
    b"\r\n\r\n\r\n",
    b"Content-Length: x\r\n\r\n",
    b"Content-Length: -5\r\n\r\n",
    b"Content-Length: 99999999999\r\n\r\n",
    b"Content-Length: 9999999999\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b'{"jsonrpc":"2.0"}',
    b'Content-Length: 4\r\n\r\n{"too":"long"}',
    b"\x00" * 200_000,
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda value: repr(value[:30]))
def test_garbage_between_frames_is_skipped(shared_wire, garbage) -> None:
    shared_wire.send_raw(garbage)
    shared_wire.notify("$/may/be/lost", {})
    assert_still_answers(shared_wire)


HEADERS = [
    b"content-length: %d\r\n\r\n",
    b"CONTENT-LENGTH:%d\r\n\r\n",
    b"Content-Type: application/vscode-jsonrpc; charset=utf-8\r\nContent-Length: %d\r\n\r\n",
    b"Content-Length: %d\r\nX-Other: 5\r\n\r\n",
    b"Content-Length: %d\n\n",
]


@pytest.mark.parametrize("header", HEADERS)
def test_headers_are_read_in_any_case_and_order(shared_wire, header) -> None:
    body = request_body(777)
    shared_wire.send_raw(header % len(body) + body)
    assert shared_wire.reply(777)["result"]["state"] == "ready"


def test_nothing_is_served_before_initialize(serve) -> None:
    wire = serve()
    assert wire.ask("midfill/status", {})["error"]["code"] == NOT_INITIALIZED
    wire.open("return \n")
    assert wire.ask("initialize", {"capabilities": 7})["error"]["code"] == INVALID_PARAMS
    wire.start()
    assert wire.suggest({"line": 0, "character": 7}) == []
    assert_still_answers(wire)
