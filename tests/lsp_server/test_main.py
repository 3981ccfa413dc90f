"""The command line."""

from __future__ import annotations

import os
import sys

import pytest

from lsp_server.__main__ import main
from tests.lsp_server.conftest import config_home
from tests.lsp_server.wire import write_script


@pytest.mark.parametrize(
    ("args", "passed_on"),
    [
        (["verify", "/models/x", "--help"], ["verify", "/models/x", "--help"]),
        (["engine", "stop", "-v"], ["stop", "-v"]),
        (["models"], ["models"]),
    ],
)
def test_the_engine_s_commands_are_passed_on_whole(monkeypatch, args, passed_on) -> None:
    class Became(Exception):
        """execv never returns."""

    def become(path: str, argv: list[str]) -> None:
        raise Became(path, argv)

    monkeypatch.setattr(os, "execv", become)
    monkeypatch.setattr(sys, "argv", ["midfill", *args])
    with pytest.raises(Became) as became:
        main()
    assert became.value.args == (sys.executable, [sys.executable, "-m", "engine", *passed_on])


@pytest.mark.parametrize(
    ("args", "code", "said"), [(["--version"], 0, "midfill "), ([], 0, "serve"), (["serve", "--fast"], 2, "--fast")]
)
def test_what_it_says_and_how_it_ends(monkeypatch, capsys, args, code, said) -> None:
    monkeypatch.setattr(sys, "argv", ["midfill", *args])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == code
    output = capsys.readouterr()
    assert said in output.out + output.err


def test_the_command_line_goes_over_the_users_file_whose_faults_are_named_in_the_editor(serve, private_env, tmp_path) -> None:
    script = write_script(tmp_path)
    toml = f'engine = "resident"\nscript = "{script}"\nmax_tokens = "many"\n'
    wire = serve("--engine", "scripted", env=config_home(tmp_path, private_env, toml))
    wire.start()
    assert wire.ask("midfill/status", {})["result"]["model"] == "scripted"
    message = wire.notification("window/showMessage")["params"]["message"]
    assert message == "midfill: your settings: max_tokens: must be int, got str 'many'; keeping 64"
