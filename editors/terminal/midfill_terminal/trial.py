"""`midfill try`: a small editor that shows ghost text, and under it what each keystroke cost."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from textual import on, work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Footer, Static

from midfill_terminal.ghost_area import GhostArea
from midfill_terminal.keystrokes import Keystrokes
from midfill_terminal.places import Place
from midfill_terminal.session import ServerEnded, Session, Suggestion, language_of, open_session

SAMPLE = Path(__file__).parent / "sample.py.txt"  # not a module: it stops in the middle of a statement
SAMPLE_CURSOR = "if name not in"
STATUS_EVERY_S = 0.2  # while the model loads
LOADING = ("loading", "warming")


def run(file: Path | None, serve_args: list[str]) -> int:
    """Edits a file, or the sample where none is named; gives the exit code."""
    try:
        text = open_text(file)
    except (OSError, UnicodeDecodeError) as error:
        print(f"midfill: {file} can't be edited: {error}", file=sys.stderr)
        return 2
    app = Trial(file, text, serve_args)
    app.run()
    return app.return_code or 0


def open_text(file: Path | None) -> str:
    """Gives a file's text, nothing where it is new, or the sample. Raises: OSError, UnicodeDecodeError."""
    if file is not None and not file.exists():
        return ""
    return (file or SAMPLE).read_bytes().decode("utf-8")


class Trial(App[None]):
    """One document, one server, and a row for each keystroke."""

    CSS = """
    #title { height: 1; padding: 0 1; background: $panel; }
    GhostArea { height: 1fr; border: none; padding: 0; }
    GhostArea .text-area--suggestion { color: $text-muted; text-style: italic; }
    Keystrokes { height: 9; background: $surface; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+n", "alternative(1)", "next", priority=True),
        Binding("ctrl+p", "alternative(-1)", "previous", priority=True),
        Binding("ctrl+s", "save", "save", priority=True),
        Binding("ctrl+q", "quit", "quit", priority=True),
    ]
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, file: Path | None, text: str, serve_args: list[str]) -> None:
        super().__init__()
        self.path = file or Path("stock.py")
        self._is_sample = file is None
        self._newline = "\r\n" if "\r\n" in text else "\n"
        self._text = self._saved = self._left = text.replace("\r\n", "\n")
        self._serve_args = serve_args
        self._session: Session | None = None
        self._has_model = False
        self._version = 1
        self._suggestions: list[Suggestion] = []
        self._shown_idx = 0

    def compose(self) -> ComposeResult:
        yield Static(id="title", markup=False)
        area = GhostArea.code_editor(self._text, theme="vscode_dark", soft_wrap=False)
        if (language := language_of(self._place(0))) in area.available_languages:
            area.language = language
        yield area
        yield Keystrokes()
        yield Footer()

    def on_mount(self) -> None:
        self.area = self.query_one(GhostArea)
        self.costs = self.query_one(Keystrokes)
        self.area.focus()
        if self._is_sample:
            self.area.move_cursor(_location(self._text, self._text.index(SAMPLE_CURSOR) + len(SAMPLE_CURSOR)))
        self._converse()

    @work(group="server")
    async def _converse(self) -> None:
        """Holds a conversation with a server for as long as the app runs, and begins another where a server dies."""
        self._has_model = True
        while self._has_model:  # one that ended before it answered would only end again
            self._has_model = False
            with suppress(ServerEnded):
                async with open_session(self._serve_args, deadline_ms=None) as session:
                    await self._serve(session)
            self._session = None
            self._title("the server ended")

    async def _serve(self, session: Session) -> None:
        self._version += 1
        session.open(self._place(0), self._version)
        self._session = session
        session.listen(self._show_status, lambda message: self.notify(message, severity="warning"))
        while (status := await session.status())["state"] in LOADING:
            self._show_status(status)
            await asyncio.sleep(STATUS_EVERY_S)
        self._show_status(status)
        self._has_model = True
        self._ask("open")
        await session.ended.wait()

    @property
    def is_answering(self) -> bool:
        """Whether a server is there and has been asked."""
        return self._session is not None and self._has_model

    def kill_server(self) -> None:
        """Ends the server as a crash would; for tests."""
        if self._session is not None:
            self._session.kill()

    def _place(self, offset: int) -> Place:
        return Place(self.path, self._text, offset)

    def _show_status(self, status: dict[str, Any]) -> None:
        share = "" if status["progress"] in (None, 1) else f" {status['progress']:.0%}"
        detail = f": {status['detail']}" if status["state"] == "engine_down" else ""
        where = f" on {status['device']}, {status['dtype']}" if status["device"] else ""
        self._title(f"{status['model']}{where}: {status['state']}{share}{detail}")

    def _title(self, about: str) -> None:
        self.query_one("#title", Static).update(f"{self.path.name}   {about}")

    def _title(self, about: str) -> None:
        self.query_one("#title", Static).update(f"{self.path.name}   {about}")

    @on(GhostArea.Edited)
    def _pass_on(self, message: GhostArea.Edited) -> None:
        """Tells the server of an edit and asks what follows it, at once: the server knows best when to wait."""
        self._text = message.control.text
        self._version += 1
        if self._session is not None:
            self._session.change(self._place(0), self._version, message.change)
            self._ask(message.key)

    @work(exclusive=True, group="question")
    async def _ask(self, key: str, *, is_invoked: bool = False, step: int = 0) -> None:
        session, version = self._session, self._version
        if session is None:
            return
        cursor = self.area.cursor_location
        place = self._place(_offset(self._text, cursor))
        try:
            suggestions = await session.suggest(place, is_invoked=is_invoked)
            status = await session.status()
        except ServerEnded:
            return
        self._show_status(status)
        # A reply is used only if text and cursor are still what they were.
        if version != self._version or cursor != self.area.cursor_location:
            return
        self._suggestions = [each for each in suggestions if each.start == each.end == place.offset]
        self._show(step % len(self._suggestions) if self._suggestions else 0)
        self.costs.add(key, status["last"], self.area.ghost or None)

    def _show(self, idx: int) -> None:
        self._shown_idx = idx
        if self._suggestions:
            self.area.show(self._suggestions[idx].text)
            if self._session is not None:
                self._session.did_show(self._suggestions[idx])
        else:
            self.area.show("")

    def _shown(self) -> Suggestion | None:
        return self._suggestions[self._shown_idx] if self._suggestions else None

    @on(GhostArea.Taken)
    async def _report_taken(self, message: GhostArea.Taken) -> None:
        shown, session = self._shown(), self._session
        if shown is None or session is None:
            return
        if message.rest:
            session.did_partially_accept(shown, len(shown.text) - len(message.rest))
        else:
            with suppress(ServerEnded):
                await session.did_accept(shown)

    @on(GhostArea.Dismissed)
    def _report_dismissed(self) -> None:
        if (shown := self._shown()) and self._session is not None:
            self._session.did_dismiss(shown)

    def action_alternative(self, step: int) -> None:
        """Shows another suggestion; asks for some where there are none to choose from."""
        is_whole = self.area.ghost and (shown := self._shown()) and shown.text == self.area.ghost
        if is_whole and len(self._suggestions) > 1:
            self._show((self._shown_idx + step) % len(self._suggestions))
        else:
            self._ask("asked", is_invoked=True, step=step if self.area.ghost else 0)

    def action_save(self) -> None:
        if self._is_sample:
            self.notify("this is the sample: name a file to keep what you write", severity="warning")
            return
        try:
            self.path.write_bytes(self._text.replace("\n", self._newline).encode("utf-8"))
        except OSError as error:
            self.notify(f"{self.path} can't be written: {error.strerror}", severity="error")
        else:
            self._saved = self._text
            self.notify(f"saved {self.path}")

    async def action_quit(self) -> None:
        """Ends; what would be lost is said first."""
        if self._is_sample or self._text in (self._saved, self._left):
            self.exit()
        else:
            self._left = self._text
            self.notify(f"{self.path} is not saved: ^q again leaves it so", severity="warning")


def _location(text: str, offset: int) -> tuple[int, int]:
    return text.count("\n", 0, offset), offset - (text.rfind("\n", 0, offset) + 1)


def _offset(text: str, location: tuple[int, int]) -> int:
    row, column = location
    return sum(len(line) + 1 for line in text.split("\n")[:row]) + column
