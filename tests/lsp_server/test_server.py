"""The server as an editor meets it: over its stdin and stdout, on a scripted engine."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.lsp_server.places import CURSOR, cursor_after, n_units, split
from tests.lsp_server.wire import URI, assert_still_answers, texts

CANCELLED, INVALID_REQUEST = -32800, -32600
PATIENT = {"deadline_ms": 60_000}
ORIGIN = {"line": 0, "character": 0}


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
        [item] = wire.suggest_at(marked, encoding=encoding)
        assert (item["insertText"], item["range"]) == (wanted, {"start": cursor, "end": cursor})


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
def test_typing_is_followed_in_the_clients_units(serve, encoding) -> None:
    wire = serve()
    wire.start(encoding=encoding)
    wire.open("😀é = 1\n# 𝄞 end")
    column = n_units("# 𝄞", encoding)
    place = {"line": 1, "character": column}
    wire.change({"range": {"start": place, "end": {"line": 1, "character": column + 4}}, "text": "; return "})
    cursor = {"line": 1, "character": column + 9}
    [item] = wire.suggest(cursor)
    assert (item["insertText"], item["range"]) == ("a + b", {"start": cursor, "end": cursor})


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
