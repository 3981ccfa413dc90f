"""The server as an editor meets it: over its stdin and stdout, on a scripted engine."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.lsp_server.conftest import config_home
from tests.lsp_server.places import CURSOR, cursor_after, n_units, split
from tests.lsp_server.wire import URI, Wire

CANCELLED, METHOD_NOT_FOUND, INVALID_PARAMS = -32800, -32601, -32602
INVALID_REQUEST, PARSE_ERROR, NOT_INITIALIZED = -32600, -32700, -32002
PATIENT = {"deadline_ms": 60_000}
ORIGIN = {"line": 0, "character": 0}


def texts(items: list) -> list[str]:
    return [item["insertText"] for item in items]


def assert_still_answers(wire: Wire) -> None:
    uri = "file:///project/still.py"
    assert texts(wire.suggest_at(f"def f(a, b):\n    return {CURSOR}\n", uri=uri)) == ["a + b"]
    wire.notify("textDocument/didClose", {"textDocument": {"uri": uri}})


# what it offers


def test_initialize_offers_inline_completion_in_the_clients_encoding(serve) -> None:
    result = serve().start(encoding="utf-8")
    capabilities = result["capabilities"]
    assert capabilities["inlineCompletionProvider"] in (True, {})
    assert capabilities["positionEncoding"] == "utf-8"
    assert capabilities["textDocumentSync"]["change"] == 2
    assert result["serverInfo"]["name"] == "midfill"


@pytest.mark.parametrize("offered", [["utf-7"], [], None])
def test_utf_16_is_spoken_where_nothing_better_is_offered(serve, offered) -> None:
    wire = serve()
    general = {} if offered is None else {"positionEncodings": offered}
    assert wire.start(capabilities={"general": general})["capabilities"]["positionEncoding"] == "utf-16"
    assert_still_answers(wire)


# suggesting

SUGGESTING = [
    (f"def f(a, b):\n    return {CURSOR}\n", "a + b"),
    (f"😀 = 1; return {CURSOR}\n", "a + b"),
    (f"s = 'é😀\u2028\x0c'; return {CURSOR})\n", "a + b"),
    (f"x\r\nreturn {CURSOR}\r\ny", "a + b"),
    (f"x\rreturn {CURSOR}\ry", "a + b"),
    (f"\x00 return {CURSOR}", "a + b"),
    (f"# <fim_prefix><fim_suffix>\nreturn {CURSOR}\n# <fim_middle>\n", "a + b"),
    (f"\x0c\nreturn {CURSOR}\x0c", "a + b"),
    (f"{CURSOR}", "done()"),
]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
def test_an_item_is_a_plain_string_with_an_empty_range_at_the_cursor(serve, encoding) -> None:
    wire = serve()
    wire.start(encoding=encoding)
    for marked, wanted in SUGGESTING:
        cursor = cursor_after(split(marked)[0], encoding)
        assert wire.suggest_at(marked, encoding=encoding) == [{"insertText": wanted, "range": {"start": cursor, "end": cursor}}]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
def test_typing_is_followed_in_the_clients_units(serve, encoding) -> None:
    wire = serve()
    wire.start(encoding=encoding)
    wire.open("😀é = 1\n# 𝄞 end")
    column = n_units("# 𝄞", encoding)
    place = {"line": 1, "character": column}
    wire.change({"range": {"start": place, "end": {"line": 1, "character": column + 4}}, "text": "; return "})
    cursor = {"line": 1, "character": column + 9}
    assert wire.suggest(cursor) == [{"insertText": "a + b", "range": {"start": cursor, "end": cursor}}]


def test_typing_into_a_suggestion_is_answered_from_memory(wire) -> None:
    assert texts(wire.suggest_at(f"return {CURSOR}\n")) == ["a + b"]
    assert wire.ask("midfill/status", {})["result"]["last"]["decoded"] > 0
    for idx, char in enumerate("a + "):
        cursor = {"line": 0, "character": 7 + idx}
        wire.change({"range": {"start": cursor, "end": cursor}, "text": char}, version=2 + idx)
        assert texts(wire.suggest({"line": 0, "character": 8 + idx})) == ["a + b"[idx + 1 :]]
    last = wire.ask("midfill/status", {})["result"]["last"]
    assert last["finish"] == "shown"
    assert {last[name] for name in ("prompt", "reused", "prefilled", "decoded", "wasted", "total_ms")} == {0}


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_every_trigger_kind_that_is_sent_somewhere_is_understood(shared_wire, kind) -> None:
    shared_wire.open("return \n")
    assert texts(shared_wire.suggest({"line": 0, "character": 7}, kind=kind)) == ["a + b"]


def test_a_failing_engine_is_an_empty_list_and_a_log_line(serve) -> None:
    wire = serve()
    wire.start()
    assert wire.suggest_at(f"broken {CURSOR}\n") == []
    assert wire.ask("midfill/status", {})["result"]["last"]["finish"] == "error"
    assert_still_answers(wire)
    assert wire.stop() == 0
    assert any("the engine failed" in line for line in wire.log)


def test_the_log_holds_no_text(serve) -> None:
    wire = serve()
    wire.start()
    wire.suggest_at(f"my_secret = return {CURSOR}\n")
    wire.notify("textDocument/didChange", {"textDocument": {"uri": URI}, "contentChanges": "my_secret"})
    wire.stop()
    assert any("suggest v=1 " in line and "finish=newline" in line for line in wire.log)
    assert not any("my_secret" in line or "a + b" in line for line in wire.log)


# ending requests early


def test_a_cancelled_request_is_answered_with_the_cancelled_error(serve) -> None:
    wire = serve()
    wire.start(initializationOptions=PATIENT)
    wire.open("slow \n")
    msg_id = wire.request_suggestion({"line": 0, "character": 5})
    while wire.ask("midfill/status", {})["result"]["state"] != "busy":
        pass
    wire.notify("$/cancelRequest", {"id": msg_id})
    assert wire.reply(msg_id)["error"]["code"] == CANCELLED
    assert wire.ask("midfill/status", {})["result"]["state"] == "ready"
    assert_still_answers(wire)


@pytest.mark.parametrize("then", ["request", "edit", "close", "reopen"])
def test_a_superseded_request_is_answered_with_nothing(serve, then) -> None:
    wire = serve()
    wire.start(initializationOptions=PATIENT)
    wire.open("slow \nreturn \n")
    superseded = wire.request_suggestion({"line": 0, "character": 5})
    match then:
        case "request":
            assert texts(wire.suggest({"line": 1, "character": 7})) == ["a + b"]
        case "edit":
            wire.change({"range": {"start": ORIGIN, "end": ORIGIN}, "text": "x"})
        case "close":
            wire.notify("textDocument/didClose", {"textDocument": {"uri": URI}})
        case "reopen":
            wire.open("other")
    assert wire.reply(superseded)["result"] == {"items": []}
    assert wire.ask("midfill/status", {})["result"]["state"] == "ready"


def test_a_deadline_shows_what_there_is(serve) -> None:
    wire = serve()
    wire.start(initializationOptions={"deadline_ms": 20})
    assert wire.suggest_at(f"slow {CURSOR}\n") == []
    assert wire.ask("midfill/status", {})["result"]["last"]["finish"] == "deadline"


# status


def test_status_tells_what_runs_and_what_the_last_answer_cost(wire) -> None:
    status = wire.ask("midfill/status", {})["result"]
    assert status.keys() >= {"state", "model", "device", "dtype", "attention", "n_positions", "last"}
    assert (status["state"], status["model"], status["last"]) == ("ready", "scripted", None)
    wire.suggest_at(f"return {CURSOR}\n")
    last = wire.ask("midfill/status", None)["result"]["last"]
    assert last["finish"] == "newline"
    assert {"prompt", "reused", "prefilled", "decoded", "background", "queue_ms", "total_ms", "order", "window"} <= last.keys()


def test_status_is_also_answered_without_params(wire) -> None:
    wire.send({"jsonrpc": "2.0", "id": "s", "method": "midfill/status"})
    assert wire.reply("s")["result"]["state"] == "ready"


def test_disabled_suggests_nothing_and_says_so(serve) -> None:
    wire = serve()
    wire.start(initializationOptions={"enabled": False})
    assert wire.suggest_at(f"return {CURSOR}\n") == []
    assert wire.ask("midfill/status", {})["result"]["state"] == "disabled"
    wire.notify("workspace/didChangeConfiguration", {"settings": {"midfill": {"enabled": True}}})
    assert texts(wire.suggest({"line": 0, "character": 7})) == ["a + b"]


def test_an_engine_that_cannot_be_opened_is_a_message_in_the_editor(serve) -> None:
    wire = serve("--engine", "scripted", "--script", "/nowhere/script.json")
    wire.start()
    assert "/nowhere/script.json" in wire.notification("window/showMessage")["params"]["message"]
    assert wire.suggest_at(f"return {CURSOR}\n") == []
    status = wire.ask("midfill/status", {})["result"]
    assert (status["state"], "script.json" in status["detail"]) == ("engine_down", True)


# documents

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
    assert shared_wire.suggest(cursor) == [{"insertText": "a + b", "range": {"start": cursor, "end": cursor}}]


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
    assert shared_wire.suggest(position) == [{"insertText": "a + b", "range": {"start": end, "end": end}}]
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


@pytest.mark.parametrize(
    "uri", ["file:///project/.env", "file:///project/%2Eenv.local", "untitled:.env", "file:///home/me/.ssh/config"]
)
def test_a_secret_file_gets_nothing_and_keeps_nothing(shared_wire, uri) -> None:
    before = shared_wire.ask("midfill/status", {})["result"]["last"]
    assert shared_wire.suggest_at(f"return {CURSOR}\n", uri=uri) == []
    shared_wire.change({"text": "return "}, uri=uri)
    assert shared_wire.suggest({"line": 0, "character": 7}, uri=uri) == []
    assert shared_wire.ask("midfill/status", {})["result"]["last"] == before


# settings

BAD_OPTIONS = [
    ("text", "must be a table"),
    (7, "must be a table"),
    ([1], "must be a table"),
    ({"deadline_ms": "soon"}, "deadline_ms: must be int"),
    ({"max_tokens": 0}, "max_tokens: must be from 1 to 512"),
    ({"enabeld": True}, "enabeld: unknown"),
    ({"engine": "in-process"}, "engine: can't be set from a workspace"),
    ({"model": "/evil", "script": "/evil", "n_threads": 1}, "model: can't be set from a workspace"),
    ({"deadline_ms": {"a": [None]}}, "deadline_ms: must be int"),
]


@pytest.mark.parametrize(("options", "complaint"), BAD_OPTIONS, ids=str)
def test_bad_settings_are_named_and_the_rest_goes_on(serve, options, complaint) -> None:
    wire = serve()
    wire.start(initializationOptions=options)
    message = wire.notification("window/showMessage")["params"]["message"]
    assert message.startswith("midfill: initializationOptions: ")
    assert complaint in message
    assert_still_answers(wire)


def test_settings_are_pulled_from_an_editor_that_can_be_asked(serve) -> None:
    wire = serve()
    wire.start(capabilities={"workspace": {"configuration": True}})
    asked = wire.notification("workspace/configuration")
    assert asked["params"]["items"] == [{"section": "midfill"}]
    wire.send({"jsonrpc": "2.0", "id": asked["id"], "result": [{"enabled": False, "model": "/evil"}]})
    assert "model: can't be set from a workspace" in wire.notification("window/showMessage")["params"]["message"]
    assert wire.suggest_at(f"return {CURSOR}\n") == []
    wire.notify("workspace/didChangeConfiguration", {"settings": None})
    wire.send({"jsonrpc": "2.0", "id": wire.notification("workspace/configuration")["id"], "result": [None]})
    assert texts(wire.suggest({"line": 0, "character": 7})) == ["a + b"]


BAD_ANSWERS = [
    {"result": None},
    {"result": {"enabled": False}},
    {"result": "x"},
    {"error": {"code": 1, "message": "no"}},
    {"result": []},
    {},
]


@pytest.mark.parametrize("answer", BAD_ANSWERS, ids=str)
def test_an_editor_that_gives_no_usable_settings_is_lived_with(serve, answer) -> None:
    wire = serve()
    wire.start(capabilities={"workspace": {"configuration": True}})
    wire.send({"jsonrpc": "2.0", "id": wire.notification("workspace/configuration")["id"], **answer})
    assert_still_answers(wire)
    wire.notify("workspace/didChangeConfiguration", {"settings": None})
    wire.send({"jsonrpc": "2.0", "id": wire.notification("workspace/configuration")["id"], "result": [{"enabled": False}]})
    assert wire.suggest_at(f"return {CURSOR}\n") == []


def test_the_users_file_chooses_the_engine_and_its_faults_are_told(serve, script, private_env, tmp_path) -> None:
    toml = f'engine = "scripted"\nscript = "{script}"\nmax_tokens = 0\nn_treads = 2\n'
    wire = serve("--log-level", "warning", env=config_home(tmp_path, private_env, toml))
    wire.start()
    message = wire.notification("window/showMessage")["params"]["message"]
    assert message.startswith("midfill: your settings: ")
    assert "max_tokens: must be from 1 to 512 tokens, got 0; keeping 64" in message
    assert "n_treads: unknown" in message
    assert_still_answers(wire)


def test_a_users_file_that_is_not_toml_is_named(serve, script, private_env, tmp_path) -> None:
    wire = serve("--engine", "scripted", "--script", script, env=config_home(tmp_path, private_env, "engine = ["))
    wire.start()
    assert "midfill.toml can't be read" in wire.notification("window/showMessage")["params"]["message"]
    assert_still_answers(wire)


# messages that are not as they should be

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


# ending


def test_the_exit_code_is_0_after_shutdown_and_exit(serve) -> None:
    wire = serve()
    wire.start()
    assert wire.ask("shutdown", None)["result"] is None
    assert wire.ask("midfill/status", {})["error"]["code"] == INVALID_REQUEST
    wire.send({"jsonrpc": "2.0", "method": "exit"})
    assert wire.wait() == 0


def test_the_exit_code_is_1_on_exit_alone_and_at_the_end_of_input(serve) -> None:
    alone, ended, idle = serve(), serve(), serve()
    for wire in (alone, ended):
        wire.start(initializationOptions=PATIENT)
        wire.open("slow \n")
        wire.request_suggestion({"line": 0, "character": 5})
    alone.send({"jsonrpc": "2.0", "method": "exit"})
    ended.process.stdin.close()
    idle.process.stdin.close()
    assert [wire.wait() for wire in (alone, ended, idle)] == [1, 1, 1]


def test_the_server_ends_when_the_editor_died_but_its_pipe_lives_on(serve) -> None:
    editor = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    wire = serve()
    wire.start(processId=editor.pid)
    assert_still_answers(wire)
    editor.kill()
    editor.communicate()
    assert wire.wait() == 1


@pytest.mark.parametrize("pid", [2**31 - 1, 0, -1])
def test_an_editor_that_cannot_be_seen_is_not_taken_for_dead(serve, pid) -> None:
    wire = serve()
    wire.start(processId=pid)
    assert_still_answers(wire)
