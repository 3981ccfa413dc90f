"""A program in a real terminal, tmux: keys go in, the screen comes out."""

from __future__ import annotations

import io
import itertools
import subprocess
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.text import Text

from tests.e2e.home import Home, wait_for

_numbers = itertools.count()


class Tmux:
    """One session of a server of its own, gone when the block ends."""

    def __init__(self, home: Home, command: Sequence[str], *, width: int = 84, height: int = 16) -> None:
        self._home = home
        self._size = (width, height)
        self._command = command
        self._socket = home.folder / f"tmux{next(_numbers)}"

    def __enter__(self) -> Tmux:
        width, height = self._size
        config = self._home.folder / "tmux.conf"
        config.write_text("set -s escape-time 0\nset -g status off\nset -g default-terminal tmux-256color\n", "utf-8")
        self._run("-f", str(config), "new-session", "-d", "-x", str(width), "-y", str(height), *self._command)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        subprocess.run([*self._tmux, "kill-server"], env=self._home.env, capture_output=True)

    def keys(self, *names: str) -> None:
        """Presses keys by tmux' names for them."""
        self._run("send-keys", *names)

    def type(self, text: str) -> None:
        self._run("send-keys", "-l", text)

    def screen(self) -> str:
        return self._run("capture-pane", "-p")

    def wait_for(self, text: str) -> None:
        try:
            wait_for(f"{text!r} on the screen", lambda: text in self.screen())
        except AssertionError as error:
            raise AssertionError(f"{error}:\n{self.screen()}") from None

    def svg(self, title: str) -> str:
        """Draws the screen as it is, colours included."""
        console = Console(record=True, width=self._size[0], file=io.StringIO(), force_terminal=True, color_system="truecolor")
        console.print(Text.from_ansi(self._run("capture-pane", "-p", "-e", "-N")), soft_wrap=True)
        return console.export_svg(title=title)

    @property
    def _tmux(self) -> list[str]:
        return ["tmux", "-S", str(self._socket), "-u"]

    def _run(self, *args: str) -> str:
        done = subprocess.run([*self._tmux, *args], env=self._home.env, capture_output=True, text=True, timeout=20)
        assert done.returncode == 0, done.stderr
        return done.stdout
