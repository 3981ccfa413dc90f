"""What else a user does in Neovim: choose among suggestions, turn them off, ask what is wrong; and what the server is told."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.e2e.home import PATIENCE_S, ROOT, Home, wait_for
from tests.e2e.nvim.neovim import NO_SETUP, NVIM, PLUGIN, Neovim

pytestmark = pytest.mark.e2e

# Notes what goes out to the server, on its way.
LISTEN = """
local client = vim.lsp.get_clients({ name = 'midfill' })[1]
_G.told = {}
if _G.listened_to == client.id then return end
_G.listened_to = client.id
for _, method in ipairs({ 'notify', 'request' }) do
  local send = client[method]
  client[method] = function(self, name, params, ...)
    if vim.startswith(name, 'midfill/') or name == 'workspace/executeCommand' then
      table.insert(_G.told, { name:match('[^/]*$'), params })
    end
    return send(self, name, params, ...)
  end
end
"""


@pytest.fixture
def total(nvim: Neovim) -> Neovim:
    nvim.edit(nvim.home.write("total.py", "x = '🙂'; total =\n"), "total =")
    nvim.lua(LISTEN)
    nvim.type(" ")
    nvim.wait_for_ghost("first(width) + second[height]")
    return nvim


def told(nvim: Neovim, method: str) -> list[dict]:
    return [params for name, params in nvim.lua("return _G.told") if name == method]


def test_the_server_is_told_what_is_shown_and_what_is_accepted(total):
    (shown,) = wait_for("didShow", lambda: told(total, "didShow"))
    total.keys("<M-Right>")
    total.wait_for_ghost("(width) + second[height]")
    total.keys("<M-C-Right>")
    total.wait_for_text("x = '🙂'; total = first(width) + second[height]")
    (accepted,) = wait_for("the command", lambda: told(total, "executeCommand"))
    assert told(total, "didPartiallyAccept") == [{"id": shown["id"], "acceptedLength": len("first")}]
    assert accepted == {"command": "midfill.didAccept", "arguments": [{"id": shown["id"]}]}


def test_a_partial_accept_counts_what_was_typed_before_it(total):
    total.type("first(")
    total.wait_for_ghost("width) + second[height]")
    total.keys("<M-Right>")
    total.wait_for_ghost(") + second[height]")
    wait_for("the report", lambda: told(total, "didPartiallyAccept"))


def test_a_dismissed_suggestion_is_not_offered_again_until_asked_for(total):
    (shown,) = wait_for("didShow", lambda: told(total, "didShow"))
    total.keys("<C-]>")
    total.wait_for_ghost(None)
    assert wait_for("didDismiss", lambda: told(total, "didDismiss")) == [{"id": shown["id"]}]
    assert total.type_and_hear("f") is None
    assert total.line() == "x = '🙂'; total = f"
    total.keys("<M-Bslash>")
    total.wait_for_ghost("irst(width) + second[height]")


def test_alternatives_are_asked_for_and_cycled_through(nvim: Neovim):
    nvim.edit(nvim.home.write("area.py", "area =\n"), "area =")
    nvim.type(" ")
    nvim.wait_for_ghost("width * height")
    for key, text in (("]", "height * width"), ("]", "width ** 2"), ("[", "height * width")):
        nvim.keys(f"<M-{key}>")
        nvim.wait_for_ghost(text)
    nvim.keys("<Tab>")
    nvim.wait_for_text("area = height * width")


def test_suggestions_are_turned_off_and_on(nvim: Neovim):
    def suggested() -> str | None:
        nvim.keys("<BS>")
        return nvim.type_and_hear(" ")

    nvim.edit(nvim.home.write("area.py", "area =\n"), "area =")
    nvim.type(" ")
    nvim.wait_for_ghost("width * height")
    nvim.rpc.command("Midfill toggle")
    nvim.wait_for_ghost(None)
    assert suggested() is None
    wait_for("the statusline", lambda: nvim.lua("return require('midfill').statusline()") == "midfill: off")
    nvim.rpc.command("Midfill toggle")
    wait_for("ghost text", suggested)
    nvim.rpc.command("Midfill toggle-buffer")
    nvim.wait_for_ghost(None)
    nvim.rpc.command("Midfill toggle-buffer")
    wait_for("ghost text", suggested)


def test_the_statusline_says_what_the_server_does(nvim: Neovim):
    nvim.edit(nvim.home.write("area.py", "\n"), "")
    wait_for("the statusline", lambda: nvim.lua("return require('midfill').statusline()") == "midfill: ready")


def test_another_project_is_served_by_the_same_server(nvim: Neovim):
    for folder in ("one", "two"):
        (nvim.home.project / folder / ".git").mkdir(parents=True)
        nvim.edit(nvim.home.write(f"{folder}/area.py", "\n"), "")
        nvim.keys("<Esc>")
    assert nvim.lua("return #vim.lsp.get_clients({ name = 'midfill' })") == 1


def test_health_says_what_there_is(nvim: Neovim):
    nvim.edit(nvim.home.write("area.py", "\n"), "")
    nvim.rpc.command("checkhealth midfill")
    report = nvim.text()
    nvim.rpc.command("bwipeout")
    assert "ERROR" not in report
    for line in ("✅ OK Neovim 0.12", "/bin/midfill: midfill 0.", "engine: ready", "model: scripted", "✅ OK <Tab> accept"):
        assert line in report


def test_the_status_is_told_in_words(total: Neovim):
    total.rpc.command("Midfill status")
    words = r"engine: ready\nreplays a script\nmodel: scripted\nlast request: \d+ ms, first token \d+ ms; \d+ of \d+ tokens"
    wait_for("the status", lambda: re.search(words, total.messages()))


def test_what_was_typed_while_there_was_no_answer_is_asked_again_once_there_is_one(nvim: Neovim):
    nvim.edit(nvim.home.write("area.py", "area =\n"), "area =")
    nvim.rpc.command("Midfill toggle")
    wait_for("the statusline", lambda: nvim.lua("return require('midfill').statusline()") == "midfill: off")
    assert nvim.type_and_hear(" ") is None
    nvim.rpc.command("Midfill toggle")
    nvim.wait_for_ghost("width * height")


def test_the_server_is_asked_why(nvim: Neovim):
    nvim.edit(nvim.home.write("area.py", "area =\n"), "area =")
    nvim.type(" ")
    nvim.wait_for_ghost("width * height")
    nvim.rpc.command("Midfill why")
    wait_for("the answer", lambda: "midfill: a suggestion was shown" in nvim.messages())


def test_the_documented_steps_are_all_that_a_new_user_needs(home: Home):
    (steps,) = re.findall(r"```sh\n(.*?)```", (PLUGIN / "README.md").read_text("utf-8"), re.DOTALL)
    # Where a user has them who has set nothing.
    env = {name: value for name, value in home.env.items() if name not in ("XDG_DATA_HOME", "XDG_CONFIG_HOME")}
    env["PATH"] = f"{NVIM.parent}:{env['PATH']}"
    subprocess.run(["bash", "-ec", steps], cwd=ROOT, env=env, check=True, timeout=PATIENCE_S)
    look = "+lua vim.cmd.help('midfill') print(vim.lsp.is_enabled('midfill'), vim.fn.expand('%:t'))"
    done = subprocess.run([str(NVIM), "--headless", look, "+qa"], env=env, capture_output=True, text=True, timeout=PATIENCE_S)
    assert (done.stdout + done.stderr).strip() == "true midfill.txt"


def test_what_is_wrong_with_a_configuration_is_said(home: Home, start):
    nvim = start(
        {"settings": {"deadline_ms": 500, "model": "x", "dedline": 1}, "keymaps": {"acept": "<Tab>"}, "cmd": "midfill"}
    )
    for complaint in (
        "settings.model: belongs to `server`",
        "settings.dedline: unknown",
        "keymaps.acept: unknown",
        "cmd: must be a table, got string",
    ):
        assert complaint in nvim.messages()


def test_an_older_neovim_is_told_what_it_lacks(home: Home, start):
    nvim = start(init="vim.fn.has = function() return 0 end")
    assert "midfill: needs Neovim 0.12 or newer for inline completion, this is 0." in nvim.messages()
    assert not nvim.lua("return vim.lsp.is_enabled('midfill')")


WAYS = {
    "the plain way of Neovim": (NO_SETUP, "vim.lsp.enable('midfill') vim.lsp.inline_completion.enable()"),
    "setup without options": (NO_SETUP, "require('midfill').setup()"),
    "setup with the server's alone": (None, ""),
}


@pytest.mark.parametrize(("config", "init"), WAYS.values(), ids=WAYS.keys())
def test_nothing_needs_to_be_set_and_nothing_is_complained_of(config, init, home: Home, start):
    home.use_script()
    nvim = start(config, init=init)
    nvim.edit(home.write("area.py", "area =\n"), "area =")
    nvim.type(" ")
    nvim.wait_for_ghost("width * height")
    assert nvim.messages().strip() in ("", "-- INSERT --")


def test_help_has_a_tag_for_everything_documented(nvim: Neovim, tmp_path):
    (tmp_path / "doc").mkdir()
    (tmp_path / "doc" / "midfill.txt").write_bytes((PLUGIN / "doc" / "midfill.txt").read_bytes())
    nvim.rpc.command(f"helptags {tmp_path / 'doc'}")
    tags = {line.split("\t")[0] for line in (tmp_path / "doc" / "tags").read_text("utf-8").splitlines()}
    functions = set(nvim.lua("return vim.tbl_keys(require('midfill'))"))
    assert {f"midfill.{name}()" for name in functions} <= tags
    settings = nvim.lua("return require('midfill.settings').all")
    assert {f"midfill.{'server' if each['user_only'] else 'settings'}.{name}" for name, each in settings.items()} <= tags
