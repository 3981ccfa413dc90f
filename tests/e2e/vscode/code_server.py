"""VS Code behind a browser: starts code-server with the packaged extension, and works in its windows as a person does."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Locator, Page, TimeoutError, ViewportSize

from tests.e2e.home import BUILD, PATIENCE_S, ROOT, Home, wait_for

INSTALLED = BUILD / "vscode"
VSIX = ROOT / "editors/vscode/dist/midfill.vsix"
NODE = shutil.which("node", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
ENTRY = INSTALLED / "node_modules/code-server/out/node/entry.js"

SIZE: ViewportSize = {"width": 1000, "height": 600}

# Nothing that moves by itself, asks, or looks for a network.
QUIET: dict[str, Any] = {
    "chat.disableAIFeatures": True,
    "editor.minimap.enabled": False,
    "editor.renderWhitespace": "none",
    "editor.stickyScroll.enabled": False,
    "editor.quickSuggestions": {"other": "off", "comments": "off", "strings": "off"},
    "editor.parameterHints.enabled": False,
    "extensions.autoCheckUpdates": False,
    "extensions.autoUpdate": False,
    "files.autoSave": "off",
    "git.enabled": False,
    "telemetry.telemetryLevel": "off",
    "update.mode": "none",
    "workbench.secondarySideBar.defaultVisibility": "hidden",
    "workbench.startupEditor": "none",
    "workbench.tips.enabled": False,
}


class CodeServer:
    """One server of VS Code in a home; each window is a page of a browser."""

    def __init__(self, home: Home, **settings: object) -> None:
        assert ENTRY.exists(), f"{ENTRY} is missing: `make e2e-vscode` installs it"
        self.home = home
        for name in ("User", "Machine"):
            (home.folder / "code" / name).mkdir(parents=True)
        self.configure(**settings)
        # Without the first, VS Code asks a login shell for the environment, and gets another PATH.
        gallery = json.dumps({"serviceUrl": "http://127.0.0.1:9/", "itemUrl": "http://127.0.0.1:9/"})
        self._env = home.env | {"VSCODE_CLI": "1", "EXTENSIONS_GALLERY": gallery}
        self.install(VSIX)
        self._port = _free_port()
        options = ("--auth", "none", "--disable-telemetry", "--disable-update-check", "--disable-workspace-trust")
        self._process = subprocess.Popen(
            [*self._command, *options, "--bind-addr", f"127.0.0.1:{self._port}"],
            env=self._env,
            stdout=(home.folder / "code-server.log").open("w"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        wait_for("code-server to answer", self._is_up)

    def configure(self, **settings: object) -> None:
        """Replaces the user's settings; `midfill_x` is `midfill.x`.

        In a remote window, which a browser's is, settings of scope "machine" are read from the machine's file alone.
        """
        named = {name.replace("_", ".", 1): value for name, value in settings.items()}
        for folder, values in (("User", QUIET | named), ("Machine", named)):
            (self.home.folder / "code" / folder / "settings.json").write_text(json.dumps(values), "utf-8")

    def install(self, vsix: Path) -> None:
        """Installs a packaged extension, from its file."""
        done = subprocess.run(
            [*self._command, "--install-extension", str(vsix)], env=self._env, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def window(
        self, browser: Browser, folder: Path | None = None, *, status: str = "midfill", model: str = "scripted"
    ) -> Window:
        """Opens a folder in a window of its own, and waits until midfill shows that status there, with the model."""
        folder = folder or self.home.project
        page = browser.new_page(viewport=SIZE)
        page.set_default_timeout(PATIENCE_S * 1000)
        page.goto(f"http://127.0.0.1:{self._port}/?folder={urllib.parse.quote(str(folder))}")
        window = Window(page)
        window.shows_status(status, f"model: {model}")
        return window

    def server_pids(self) -> list[int]:
        """Finds the language servers of this home."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                args = (entry / "cmdline").read_bytes() if entry.name.isdecimal() else b""
                environ = (entry / "environ").read_bytes() if b"lsp_server\0serve" in args else b""
            except OSError:  # it has ended meanwhile
                continue
            if f"\0HOME={self.home.folder}\0".encode() in b"\0" + environ:
                found.append(int(entry.name))
        return found

    def close(self) -> None:
        """Ends the whole group: VS Code's processes outlive their server."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, number)
                self._process.wait(timeout=10)
                time.sleep(0.2)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
        self.home.leave()

    @property
    def _command(self) -> list[str]:
        folder = self.home.folder
        return [str(NODE), str(ENTRY), "--user-data-dir", str(folder / "code"), "--extensions-dir", str(folder / "extensions")]

    def _is_up(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/healthz", timeout=1):
                return True
        except (urllib.error.URLError, OSError):
            return False


class Window:
    """A window of VS Code, driven by keys and looked at as it is drawn."""

    def __init__(self, page: Page) -> None:
        self.page = page

    @property
    def status(self) -> tuple[str, str]:
        """What the status bar says, and its tooltip."""
        item = self.page.locator(_STATUS)
        if not item.count():
            return "", ""
        return item.inner_text().strip(), item.locator("a").get_attribute("aria-label") or ""

    def shows_status(self, text: str, tooltip: str = "") -> None:
        """Waits until the status bar says so."""
        try:
            wait_for(f"status {text!r}, {tooltip!r}", lambda: self.status[0] == text and tooltip in self.status[1])
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {self.status}") from None

    def open(self, path: Path) -> None:
        """Opens a file as a person would who knows its path."""
        self._choose("Control+p", str(path), self.page.locator(".quick-input-list .monaco-list-row", has_text=path.name))
        self.page.locator(f".tab.active[data-resource-name='{path.name}']").wait_for()
        self.page.locator(f"{_EDITOR} .view-line").first.wait_for()
        wait_for("the editor to have the focus", lambda: self.page.locator(f"{_EDITOR}.focused").count())

    def _choose(self, key: str, text: str, rows: Locator) -> None:
        """Takes a row of the box that asks for a file or a command, again where a page that comes late closes the box."""
        box = self.page.locator(".quick-input-widget input[type=text]")
        for _ in range(5):
            self.press(key)
            try:
                box.fill(text, timeout=5000)
                rows.first.click(timeout=5000)
            except TimeoutError:
                self.press("Escape")
            else:
                return
        raise AssertionError(f"{key} did not bring {text!r}")

    def go(self, line: int, before_end: int = 0) -> None:
        """Puts the cursor that many keys before the end of a line, counted from 0."""
        self.press("Control+Home", *["ArrowDown"] * line, "End", *["ArrowLeft"] * before_end)

    def type(self, text: str) -> None:
        self.page.keyboard.type(text, delay=20)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def command(self, title: str) -> None:
        """Runs a command through the palette."""
        # A key of its own is in the label too.
        rows = self.page.locator(f".quick-input-list .monaco-list-row:is([aria-label='{title}'], [aria-label^='{title},'])")
        self._choose("F1", f">{title}", rows)

    def walkthrough(self, title: str) -> dict[str, bool]:
        """Opens a page of steps, and gives which of them are ticked."""
        self.command("Welcome: Open Walkthrough...")
        self.page.locator(".quick-input-list .monaco-list-row", has_text=title).first.click()
        self.page.locator(".quick-input-widget").wait_for(state="hidden")
        steps = self.page.locator(".getting-started-step")
        steps.first.wait_for()
        ticks = {str(each.get_attribute("data-step-id")): each.get_attribute("aria-checked") for each in steps.all()}
        return {name.rpartition("#")[2]: tick == "true" for name, tick in ticks.items()}

    @property
    def ghost(self) -> str:
        """The ghost text as it is drawn, its further lines under the first."""
        return str(self.page.evaluate(_GHOST))

    @property
    def text(self) -> str:
        """The document as it is drawn, without ghost text; a tab is drawn as spaces."""
        return str(self.page.evaluate(_TEXT))

    def sees(self, ghost: str) -> None:
        """Waits until exactly this is drawn as ghost text."""
        try:
            wait_for(f"ghost text {ghost!r}", lambda: self.ghost == ghost)
        except AssertionError as error:
            raise AssertionError(f"{error}; drawn is {self.ghost!r} in\n{self.text}") from None

    def shows(self, text: str) -> None:
        """Waits until exactly this is drawn, apart from ghost text and empty lines at the end."""
        try:
            wait_for("the text", lambda: self.text.rstrip("\n") == text.rstrip("\n"))
        except AssertionError as error:
            raise AssertionError(f"{error}\n{text}; drawn is\n{self.text}") from None

    def save(self) -> None:
        self.press("Control+s")
        self.page.locator(".tab.active.dirty").wait_for(state="detached")

    def close(self) -> None:
        self.page.close()


_STATUS = "[id='midfill.midfill.midfill.status']"
_EDITOR = ".editor-instance .monaco-editor"
_LINES = """
  const top = line => parseFloat(line.style.top);
  const lines = [...document.querySelectorAll('.editor-instance .view-lines > .view-line')].sort((a, b) => top(a) - top(b));
  const plain = text => text.replaceAll('\\u00a0', ' ').replaceAll('\\u200b', '').replaceAll('\\u200c', '');
"""
_GHOST = f"""() => {{ {_LINES}
  const inline = lines.flatMap(line => [...line.querySelectorAll('[class*=ghost-text-decoration]')]).map(e => e.textContent);
  const below = [...document.querySelectorAll('.suggest-preview-text .view-line')].map(e => e.textContent);
  return plain([inline.join(''), ...below].join('\\n'));
}}"""
_TEXT = f"""() => {{ {_LINES}
  const shown = lines.map(line => {{
    const copy = line.cloneNode(true);
    copy.querySelectorAll('[class*=ghost-text-decoration]').forEach(e => e.remove());
    return copy.textContent;
  }});
  return plain(shown.join('\\n'));
}}"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
