"""Settings from an editor and from the user's file, as the server takes them and tells of them."""

from __future__ import annotations

import pytest

from tests.lsp_server.conftest import config_home
from tests.lsp_server.places import CURSOR
from tests.lsp_server.wire import assert_still_answers, texts

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
