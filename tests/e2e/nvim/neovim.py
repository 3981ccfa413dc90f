"""A real Neovim, embedded and driven over its RPC: keys go in, what it draws comes out."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pynvim

from tests.e2e.home import BUILD, ROOT, Home, wait_for

NVIM = BUILD / "nvim" / "bin" / "nvim"
PLUGIN = ROOT / "editors" / "neovim"
PACKAGE = Path("nvim/site/pack/midfill/start/midfill")  # below XDG_DATA_HOME, as the documentation says

NO_SETUP = {"no": "setup"}

# Ghost text as drawn: what stands behind the cursor, then the lines below it; and whether all of it is at the cursor.
GHOST = """
local namespace = vim.api.nvim_create_namespace('nvim.lsp.inline_completion')
local marks = vim.api.nvim_buf_get_extmarks(0, namespace, 0, -1, { details = true })
if #marks == 0 then return nil end
assert(#marks == 1, 'drawn more than once')
local function text(chunks)
  return vim.iter(chunks):map(function(chunk) return chunk[2] ~= 'ComplHintMore' and chunk[1] or '' end):join('')
end
local lines = { text(marks[1][4].virt_text or {}) }
for _, line in ipairs(marks[1][4].virt_lines or {}) do table.insert(lines, text(line)) end
local cursor = vim.api.nvim_win_get_cursor(0)
return { table.concat(lines, '\\n'), marks[1][2] == cursor[1] - 1 and marks[1][3] == cursor[2] }
"""


# Counts what the server has answered, for the answer may be that there is nothing to show.
COUNT_REPLIES = """
vim.g.n_replies = 0
vim.api.nvim_create_autocmd('LspRequest', { callback = function(event)
  local request = event.data.request
  if request.method == 'textDocument/inlineCompletion' and request.type == 'complete' then
    vim.schedule(function() vim.g.n_replies = vim.g.n_replies + 1 end)
  end
end })
"""


class Neovim:
    """One embedded Neovim with the plugin installed as a package."""

    def __init__(self, home: Home, config: dict[str, Any] | None = None, init: str = "") -> None:
        self.home = home
        install(home, config, init)
        command = ["/usr/bin/env", "-i", *(f"{name}={value}" for name, value in home.env.items())]
        self.rpc = pynvim.attach("child", argv=[*command, str(NVIM), "--embed", "--headless"])
        self.rpc.command(f"cd {home.project}")
        self.lua(COUNT_REPLIES)

    def lua(self, code: str, *args: Any) -> Any:
        return self.rpc.exec_lua(code, *args)

    def edit(self, path: Path, before: str) -> None:
        """Opens a file, waits for the server, and begins to insert behind the first place where `before` stands."""
        self.rpc.command(f"edit {path}")
        wait_for("the server", self.is_attached)
        text = path.read_bytes().decode().replace("\r\n", "\n")
        self.insert_behind(text[: text.index(before) + len(before)])

    def insert_behind(self, text: str) -> None:
        """Begins to insert where the text, which stands at the buffer's start, ends."""
        line = text.rpartition("\n")[2]
        self.rpc.current.window.cursor = (text.count("\n") + 1, len(line[:-1].encode()))
        self.rpc.input("a" if line else "i")

    def is_attached(self) -> bool:
        return bool(self.lua("local c = vim.lsp.get_clients({ name = 'midfill', bufnr = 0 })[1] return c and c.initialized"))

    def keys(self, keys: str) -> None:
        """Types keys by their names."""
        self.rpc.input(keys)

    def type(self, text: str) -> None:
        """Types plain text, which may hold what `keys` would read as a key's name."""
        self.rpc.input(text.replace("<", "<lt>"))

    def type_and_hear(self, text: str) -> str | None:
        """Types and gives the ghost text there is once the server has answered."""
        n_before = self.rpc.vars["n_replies"]
        self.type(text)
        wait_for(f"an answer to {text!r}", lambda: self.rpc.vars["n_replies"] > n_before)
        return self.ghost()

    def ghost(self) -> str | None:
        """The ghost text as drawn at the cursor."""
        drawn = self.lua(GHOST)
        if drawn is None or not drawn[0]:
            return None
        assert drawn[1], f"{drawn[0]!r} is not drawn at the cursor"
        return str(drawn[0])

    def wait_for_ghost(self, text: str | None) -> None:
        try:
            wait_for(f"the ghost text {text!r}", lambda: self.ghost() == text)
        except AssertionError as error:
            log = Path(self.lua("return vim.lsp.log.get_filename()"))
            tail = log.read_text("utf-8")[-3000:] if log.exists() else ""
            raise AssertionError(f"{error}; there is {self.ghost()!r} at {self.line()!r}\n{self.messages()}\n{tail}") from None

    def line(self) -> str:
        return str(self.rpc.current.line)

    def text(self) -> str:
        return "\n".join(self.rpc.current.buffer)

    def wait_for_text(self, text: str) -> None:
        wait_for(f"the text {text!r}, there is {self.text()!r}", lambda: self.text() == text)

    def messages(self) -> str:
        return str(self.rpc.command_output("messages"))

    def status(self) -> dict[str, Any]:
        """The server's own word."""
        answer = self.lua(
            "return vim.lsp.get_clients({ name = 'midfill' })[1]:request_sync('midfill/status', vim.empty_dict(), 10000).result"
        )
        assert isinstance(answer, dict)
        return answer

    def saved(self) -> bytes:
        """Leaves insert mode, saves, and gives what is on the disk."""
        self.keys("<Esc>")
        self.rpc.command("write")
        return Path(str(self.rpc.current.buffer.name)).read_bytes()

    def close(self) -> None:
        """Quits as a person does, which ends the server."""
        with suppress(OSError):
            self.rpc.command("qall!", async_=True)
        self.rpc.close()


def install(home: Home, config: dict[str, Any] | None = None, init: str = "") -> None:
    """Puts the plugin where `:help packages` wants it, and an init.lua beside it."""
    package = Path(home.env["XDG_DATA_HOME"]) / PACKAGE
    if not package.exists():
        package.parent.mkdir(parents=True)
        package.symlink_to(PLUGIN)
    settings = {"server": home.scripted, **(config or {})}
    lua = f"require('midfill').setup(vim.json.decode([==[{json.dumps(settings)}]==]))" if config != NO_SETUP else ""
    folder = Path(home.env["XDG_CONFIG_HOME"]) / "nvim"
    folder.mkdir(exist_ok=True)
    (folder / "init.lua").write_text(f"{init}\n{lua}\n", "utf-8")
