"""The command line."""

from __future__ import annotations

import os
import subprocess
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
    assert became.value.args == (sys.executable, [sys.executable, "-P", "-m", "engine", *passed_on])


@pytest.mark.parametrize("command", [["engine", "status"], ["doctor"]])
def test_a_folder_named_engine_in_the_workspace_is_never_run(tmp_path, private_env, command) -> None:
    (tmp_path / "engine").mkdir()
    for name in ("__init__.py", "__main__.py"):
        (tmp_path / "engine" / name).write_text("print('the repository took over')\n")
    run = "import sys; from lsp_server.__main__ import main; sys.argv = ['midfill', *sys.argv[1:]]; main()"
    args = [sys.executable, "-P", "-c", run, *command]
    done = subprocess.run(args, cwd=tmp_path, env=private_env, capture_output=True, text=True, check=True)
    assert "no engine runs" in done.stdout
    assert "took over" not in done.stdout


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
