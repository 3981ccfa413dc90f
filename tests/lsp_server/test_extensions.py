"""midfill's own methods, as an editor uses them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.lsp_server.places import CURSOR
from tests.lsp_server.wire import URI, Wire, assert_still_answers, texts


def accept(wire: Wire, item: dict) -> None:
    """Does what an editor does: the text goes in, then the item's command is run."""
    wire.change({"range": item["range"], "text": item["insertText"]})
    command = item["command"]
    wire.ask("workspace/executeCommand", {"command": command["command"], "arguments": command["arguments"]})


def test_an_accepted_suggestion_is_counted_and_the_next_is_there(wire) -> None:
    before = wire.ask("midfill/stats", {})["result"]  # other tests' sessions are in the totals
    [item] = wire.suggest_at(f"return {CURSOR}\n")
    shown_id = item["command"]["arguments"][0]["id"]
    wire.notify("midfill/didShow", {"id": shown_id})
    wire.notify("midfill/didPartiallyAccept", {"id": shown_id, "acceptedLength": 2})
    accept(wire, item)
    stats = wire.ask("midfill/stats", {})["result"]
    names = ("offered", "shown", "accepted", "chars_accepted", "partially_accepted", "chars_accepted_in_part")
    assert [stats[name] - before[name] for name in names] == [1, 1, 1, 5, 1, 2]
    assert stats["latency_ms"]["p50"] > 0


def test_a_dismissed_suggestion_is_not_offered_again_until_asked_for_by_hand(wire) -> None:
    [item] = wire.suggest_at(f"return {CURSOR}\n")
    wire.notify("midfill/didDismiss", {"id": item["command"]["arguments"][0]["id"]})
    cursor = {"line": 0, "character": 7}
    assert wire.suggest(cursor) == []
    assert texts(wire.suggest(cursor, kind=1)) == ["a + b"]
    assert texts(wire.suggest(cursor)) == ["a + b"]


REPORTS = ["midfill/didShow", "midfill/didPartiallyAccept", "midfill/didDismiss"]


@pytest.mark.parametrize("params", [None, {}, [], {"id": 7}, {"id": "nobody"}, {"id": "1", "acceptedLength": "x"}], ids=str)
def test_a_report_that_cannot_be_read_changes_nothing(shared_wire, params) -> None:
    for method in REPORTS:
        shared_wire.notify(method, params)
    shared_wire.ask("workspace/executeCommand", {"command": "midfill.didAccept", "arguments": [params]})
    shared_wire.ask("workspace/executeCommand", {"command": "midfill.didAccept"})
    assert_still_answers(shared_wire)


def test_the_command_is_advertised(serve) -> None:
    capabilities = serve().start()["capabilities"]
    assert capabilities["executeCommandProvider"]["commands"] == ["midfill.didAccept"]


def test_a_change_of_status_is_told_without_asking(serve) -> None:
    wire = serve()
    wire.start()
    assert wire.notification("midfill/didChangeStatus")["params"]["state"] == "ready"
    wire.notify("workspace/didChangeConfiguration", {"settings": {"midfill": {"enabled": False}}})
    assert wire.notification("midfill/didChangeStatus")["params"]["state"] == "disabled"


def test_a_restarted_engine_answers_and_requests_in_flight_end_with_nothing(serve) -> None:
    wire = serve()
    wire.start(initializationOptions={"deadline_ms": 60_000})
    wire.open("slow \n")
    asked = wire.request_suggestion({"line": 0, "character": 5})
    assert wire.ask("midfill/restartEngine", {})["result"]["state"] == "ready"
    assert wire.reply(asked)["result"] == {"items": []}
    assert_still_answers(wire)


def run(*arguments: str, env: dict[str, str]) -> str:
    return subprocess.check_output([sys.executable, "-m", "lsp_server", *arguments], env=env, text=True)


def test_what_was_counted_is_printed_after_the_server_has_ended(serve, tmp_path, private_env, script) -> None:
    env = {**private_env, "XDG_STATE_HOME": str(tmp_path)}
    wire = serve("--engine", "scripted", "--script", script, env=env)
    wire.start()
    [item] = wire.suggest_at(f"return {CURSOR}\n")
    accept(wire, item)
    assert wire.stop() == 0
    rows = dict(line.split(maxsplit=1) for line in run("stats", env=env).splitlines())
    assert (rows["offered"], rows["accepted"], rows["share_accepted"]) == ("1", "1", "100.0%")


def test_a_server_that_is_told_to_end_by_a_signal_keeps_its_numbers(serve, tmp_path, private_env, script) -> None:
    env = {**private_env, "XDG_STATE_HOME": str(tmp_path)}
    wire = serve("--engine", "scripted", "--script", script, env=env)
    wire.start()
    wire.suggest_at(f"return {CURSOR}\n")
    wire.process.terminate()
    assert wire.wait() == 1
    assert "offered                  1" in run("stats", env=env)


def test_a_recorded_session_is_run_again_with_the_same_answers(serve, tmp_path, private_env, script) -> None:
    for with_text in ([], ["--record-text"]):
        record = tmp_path / f"session-{len(with_text)}.jsonl"
        wire = serve("--engine", "scripted", "--script", script, "--record", str(record), *with_text)
        wire.start()
        assert texts(wire.suggest_at(f"my_secret = return {CURSOR}\n"))
        assert wire.stop() == 0
        assert ("my_secret" in record.read_text()) == bool(with_text)
        assert record.stat().st_mode & 0o777 == 0o600
        printed = run("replay", str(record), "--speed", "0", "--engine", "scripted", "--script", script, env=private_env)
        assert "suggestions asked     1" in printed
        assert "never answered        0" in printed
    assert "same as recorded      1 of 1" in printed


def test_doctor_tells_what_a_report_needs_and_no_more(private_env, tmp_path) -> None:
    (tmp_path / "midfill").mkdir()
    (tmp_path / "midfill" / "midfill.toml").write_text("max_tokens = 9\nmax_chars = -1\n")
    page = run("doctor", env={**private_env, "XDG_CONFIG_HOME": str(tmp_path), "HOME": str(tmp_path)})
    for wanted in (
        "pygls ",
        "python 3",
        "max_tokens = 9",
        "problem: max_chars",
        "logical cores",
        "no engine runs",
        "~/midfill",
    ):
        assert wanted in page
    assert str(tmp_path) not in page


def test_the_status_page_is_json(wire) -> None:
    json.dumps(wire.ask("midfill/status", {})["result"])


def test_nothing_of_a_document_closed_since_is_reported(wire) -> None:
    [item] = wire.suggest_at(f"return {CURSOR}\n")
    wire.notify("textDocument/didClose", {"textDocument": {"uri": URI}})
    wire.notify("midfill/didDismiss", {"id": item["command"]["arguments"][0]["id"]})
    assert wire.ask("midfill/stats", {})["result"]["dismissed"] == 0
