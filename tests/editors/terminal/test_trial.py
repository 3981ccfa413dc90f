"""`midfill try` through Textual's pilot, with the real server on a script: keys go in, the screen comes out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from midfill_terminal.ghost_area import GhostArea
from midfill_terminal.trial import Trial
from textual.pilot import Pilot

from tests.lsp_server.wire import PATIENCE_S, write_script

BLOCK = "\n    one = 1\n    two = 2\n    return one + two"
SCRIPT = (
    {"prefix_ends": "return ", "text": "width * height\n", "others": ["height * width\n", "width ** 2\n"]},
    {"prefix_ends": "naïve = '🙂' + ", "text": "café + '🦀'\n"},
    {"prefix_ends": "def block():", "text": BLOCK + "\n"},
    {"prefix_ends": "print(", "text": "width, height)\n"},
)


@pytest.fixture
def script(tmp_path: Path) -> str:
    return write_script(tmp_path, *SCRIPT)


class Screen:
    """The running app and what stands on its screen."""

    def __init__(self, app: Trial, pilot: Pilot[None]) -> None:
        self.app = app
        self.pilot = pilot

    @property
    def area(self) -> GhostArea:
        return self.app.query_one(GhostArea)

    def drawn(self) -> str:
        """The editor's lines as drawn, without line numbers and what is blank."""
        lines = (self.area.render_line(y).text[self.area.gutter_width :].rstrip() for y in range(self.area.size.height))
        return "\n".join(lines).rstrip()

    async def until(self, what: str, look: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not look():
                    await self.pilot.pause(0.02)
        except TimeoutError:
            raise AssertionError(f"waited for {what}; the screen is\n{self.drawn()}") from None

    async def type(self, text: str) -> None:
        for char in text:
            await self.pilot.press({" ": "space", "\n": "enter"}.get(char, char))

    async def until_ghost(self, ghost: str) -> None:
        await self.until(f"the ghost text {ghost!r}", lambda: self.area.ghost == ghost)


@pytest.fixture
def edit(tmp_path: Path, script: str, private_env: dict[str, str], monkeypatch: pytest.MonkeyPatch):
    """Edits a text with the cursor at its end."""
    for name, value in private_env.items():
        monkeypatch.setenv(name, value)
    config = tmp_path / "config" / "midfill" / "midfill.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f"deadline_ms = {PATIENCE_S * 1000:.0f}\n", "utf-8")  # nobody asks again where a busy machine was late
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    @asynccontextmanager
    async def session(text: str, name: str = "code.py") -> AsyncIterator[Screen]:
        app = Trial(tmp_path / name, text, ["--engine", "scripted", "--script", script])
        async with app.run_test(size=(100, 30)) as pilot:
            screen = Screen(app, pilot)
            screen.area.move_cursor(screen.area.document.end)
            await screen.until("the server", lambda: app.is_answering)
            yield screen

    return session


async def test_ghost_text_is_drawn_typed_through_and_accepted(edit, tmp_path: Path):
    async with edit("def area(width, height):\n    return") as screen:
        await screen.type(" ")
        await screen.until_ghost("width * height")
        assert screen.drawn().endswith("    return width * height")
        await screen.type("wid")
        assert screen.area.ghost == "th * height"  # at once, whatever the server says
        await screen.pilot.press("tab")
        assert screen.area.text == "def area(width, height):\n    return width * height"
        await screen.pilot.press("ctrl+s")
        assert (tmp_path / "code.py").read_bytes() == screen.area.text.encode()
        screen.area.undo()
        assert screen.area.text == "def area(width, height):\n    return wid"


async def test_a_key_that_disagrees_takes_ghost_text_off_and_backspace_brings_it_back(edit):
    async with edit("return") as screen:
        await screen.type(" ")
        await screen.until_ghost("width * height")
        await screen.type("x")
        assert screen.area.ghost == ""
        await screen.pilot.press("backspace")
        await screen.until_ghost("width * height")
        await screen.pilot.press("left")
        await screen.until_ghost("")


async def test_words_and_lines_are_accepted_and_the_rest_stays_in_place(edit):
    async with edit("def block()") as screen:
        await screen.type(":")
        await screen.until_ghost(BLOCK)
        assert screen.drawn() == "def block():" + BLOCK
        await screen.pilot.press("ctrl+right")
        assert screen.area.text == "def block():\n    one"
        await screen.pilot.press("end")
        assert screen.area.text == "def block():\n    one = 1"
        assert screen.drawn() == "def block():" + BLOCK
        await screen.pilot.press("tab")
        assert screen.area.text == "def block():" + BLOCK


async def test_lines_below_are_pushed_down_and_come_back(edit):
    async with edit("def block()\n\n\nlast = 1") as screen:
        screen.area.move_cursor((0, len("def block()")))
        await screen.type(":")
        await screen.until_ghost(BLOCK)
        assert screen.drawn() == "def block():" + BLOCK + "\n\n\nlast = 1"
        await screen.pilot.press("escape")
        assert screen.drawn() == "def block():\n\n\nlast = 1"


async def test_characters_outside_ascii_and_the_bmp_keep_their_places(edit):
    async with edit("naïve = '🙂' +") as screen:
        await screen.type(" ")
        await screen.until_ghost("café + '🦀'")
        await screen.pilot.press("tab")
        assert screen.area.text == "naïve = '🙂' + café + '🦀'"
        await screen.type("\nreturn ")
        await screen.until_ghost("width * height")


async def test_crlf_is_kept(edit, tmp_path: Path):
    async with edit("a = 1\r\nreturn") as screen:
        await screen.type(" ")
        await screen.until_ghost("width * height")
        await screen.pilot.press("tab", "ctrl+s")
        assert (tmp_path / "code.py").read_bytes() == b"a = 1\r\nreturn width * height"


SURROUNDINGS = {
    "tabs": ("if a:\n\tif b:\n\t\treturn┃\n", " ", "width * height", "if a:\n\tif b:\n\t\treturn width * height\n"),
    "lines": ("return┃\n\nb = 2\n", " ", "width * height", "return width * height\n\nb = 2\n"),
    "a bracket": ("print┃)\n", "(", "width, height", "print(width, height)\n"),
}


@pytest.mark.parametrize("case", SURROUNDINGS.values(), ids=SURROUNDINGS.keys())
async def test_the_saved_file_is_what_was_shown_beside(case, edit, tmp_path: Path):
    marked, typed, ghost, saved = case
    before, after = marked.split("┃")
    async with edit(before + after) as screen:
        screen.area.move_cursor((before.count("\n"), len(before.rpartition("\n")[2])))
        await screen.type(typed)
        await screen.until_ghost(ghost)
        await screen.pilot.press("tab", "ctrl+s")
        assert (tmp_path / "code.py").read_bytes() == saved.encode()


async def test_alternatives_are_cycled_through(edit):
    async with edit("return") as screen:
        await screen.type(" ")
        await screen.until_ghost("width * height")
        for key, ghost in (("ctrl+n", "height * width"), ("ctrl+n", "width ** 2"), ("ctrl+p", "height * width")):
            await screen.pilot.press(key)
            await screen.until_ghost(ghost)


async def test_each_keystroke_says_what_it_cost(edit):
    async with edit("return") as screen:
        await screen.type(" ")
        await screen.until("the cost", lambda: screen.app.costs.row_count > 0 and screen.app.costs.get_cell_at((0, 0)) == "␣")
        assert [str(column.label) for column in screen.app.costs.columns.values()][1:6] == [
            *("reused", "prefilled", "decoded", "first token", "total"),
        ]
        assert screen.app.costs.get_row_at(0)[-1] == "width * height"


async def test_what_is_not_saved_is_said_before_it_is_lost(edit, tmp_path: Path):
    async with edit("return") as screen:
        await screen.type("x")
        await screen.pilot.press("ctrl+q")
        assert screen.app.return_code is None
        await screen.type("y")
        await screen.pilot.press("ctrl+q")
        assert screen.app.return_code is None
        await screen.pilot.press("ctrl+s", "ctrl+q")
        assert screen.app.return_code == 0
        assert (tmp_path / "code.py").read_text("utf-8") == "returnxy"


async def test_another_server_starts_where_one_died(edit):
    async with edit("return") as screen:
        await screen.type(" ")
        await screen.until_ghost("width * height")
        screen.app.kill_server()
        await screen.type("x")
        await screen.until("another server", lambda: screen.app.is_answering)
        await screen.pilot.press("backspace")
        await screen.until_ghost("width * height")


async def test_the_sample_is_open_where_no_file_is_named(script, private_env, monkeypatch):
    from midfill_terminal.trial import open_text

    for name, value in private_env.items():
        monkeypatch.setenv(name, value)
    app = Trial(None, open_text(None), ["--engine", "scripted", "--script", script])
    async with app.run_test():
        row, column = app.area.cursor_location
        assert app.area.document.get_line(row)[:column].endswith("if name not in")
        app.action_save()
        assert not app.path.exists()
