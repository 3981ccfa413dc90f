"""A text area that shows ghost text of several lines at its cursor, and lets it be taken whole, by word and by line."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import ClassVar

from rich.segment import Segment
from textual.binding import Binding, BindingType
from textual.document._document import EditResult
from textual.document._edit import Edit
from textual.events import Key, MouseEvent
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip
from textual.widgets import TextArea

from midfill_terminal.session import Change

# A word with the white space before it, or a run of punctuation: `):` is one key.
_WORD = re.compile(r"\s*(?:\w+|[^\w\s]+)")
_LINE = re.compile(r"\n?[^\n]*")


class GhostArea(TextArea):
    """Draws the ghost text's first line at the cursor and the others between the document's lines, as editors do."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "accept", "accept", priority=False),
        Binding("ctrl+right", "accept_word", "word"),
        Binding("end", "accept_line", "line"),
        Binding("escape", "dismiss", "dismiss"),
    ]

    ghost: reactive[str] = reactive("")
    _ghost_at: tuple[int, int] | None = None

    class Edited(Message):
        """The text changed."""

        def __init__(self, area: GhostArea, change: Change, key: str) -> None:
            super().__init__()
            self.area, self.change, self.key = area, change, key

        @property
        def control(self) -> GhostArea:
            return self.area

    class Taken(Message):
        """A part of the ghost text became text, or all of it."""

        def __init__(self, rest: str) -> None:
            super().__init__()
            self.rest = rest

    class Dismissed(Message):
        """The user does not want what is shown."""

    def on_text_area_selection_changed(self, message: TextArea.SelectionChanged) -> None:
        if message.selection.end != self._ghost_at or not message.selection.is_empty:
            self.ghost = ""  # the cursor went elsewhere

    def show(self, ghost: str) -> None:
        """Shows ghost text at the cursor."""
        self._ghost_at = self.cursor_location
        self.ghost = ghost

    def watch_ghost(self) -> None:
        self.update_suggestion()
        self.refresh()

    def update_suggestion(self) -> None:
        """Shows the ghost text's first line; the hook that the base class calls after each edit, when it has cut its own."""
        self.suggestion = self.ghost.partition("\n")[0]

    def edit(self, edit: Edit) -> EditResult:
        """Makes an edit. What is typed as the ghost text has it leaves the rest standing; anything else takes it away."""
        is_typed = edit.top == edit.bottom == self.cursor_location
        rest = self.ghost.removeprefix(edit.text) if is_typed and self.ghost.startswith(edit.text) else ""
        change = Change(edit.text, edit.top, edit.bottom)
        result = super().edit(edit)
        self.show(rest)
        self.post_message(self.Edited(self, change, _key_of(edit.text)))
        return result

    def undo(self) -> None:
        self._step(super().undo, "undo")

    def redo(self) -> None:
        self._step(super().redo, "redo")

    def _step(self, step: Callable[[], None], key: str) -> None:
        before = self.text
        step()
        if self.text != before:
            self.ghost = ""
            self.post_message(self.Edited(self, Change(self.text), key))

    async def _on_key(self, event: Key) -> None:
        # The base class would indent with Tab and leave the widget with Escape whether or not they are bound.
        if self.ghost and event.key in ("tab", "escape"):
            event.stop()
            event.prevent_default()
            await self.run_action("accept" if event.key == "tab" else "dismiss")
            return
        await super()._on_key(event)

    def action_accept(self) -> None:
        self._take(len(self.ghost))

    def action_accept_word(self) -> None:
        if not self.ghost:
            self.action_cursor_word_right()
        elif word := _WORD.match(self.ghost):
            self._take(word.end())
        else:
            self.action_accept()

    def action_accept_line(self) -> None:
        line = _LINE.match(self.ghost)
        if self.ghost and line:
            self._take(line.end())
        else:
            self.action_cursor_line_end()

    def action_dismiss(self) -> None:
        if self.ghost:
            self.ghost = ""
            self.post_message(self.Dismissed())

    def action_cursor_right(self, select: bool = False) -> None:
        """Moves. The base class would insert what it holds for a suggestion of one line."""
        self.suggestion = ""
        super().action_cursor_right(select)

    def _take(self, n_chars: int) -> None:
        piece = self.ghost[:n_chars]
        if not piece:
            return
        self.history.checkpoint()
        self.insert(piece, maintain_selection_offset=False)
        self.history.checkpoint()
        self.scroll_cursor_visible()
        self.post_message(self.Taken(self.ghost))

    def render_line(self, y: int) -> Strip:
        """Puts the ghost text's further lines below the cursor's, and what stands there below them."""
        first, n_below = self._below()
        if n_below and first <= y < first + n_below:
            return self._ghost_line(self.ghost.split("\n")[y - first + 1])
        return super().render_line(y - n_below if n_below and y >= first else y)

    def get_target_document_location(self, event: MouseEvent) -> tuple[int, int]:
        """Finds what was clicked on, which the ghost text may have pushed down."""
        first, n_below = self._below()
        location = super().get_target_document_location(event)
        if n_below and event.y >= first:
            row = max(self.cursor_location[0], location[0] - n_below)
            return (row, min(location[1], len(self.document.get_line(row))))
        return location

    def _below(self) -> tuple[int, int]:
        """Gives where on the screen the ghost text's further lines begin, and how many they are."""
        return self._cursor_offset[1] - self.scroll_offset.y + 1, self.ghost.count("\n")

    def _ghost_line(self, text: str) -> Strip:
        style = self.rich_style + self.get_component_rich_style("text-area--suggestion")
        width = self.size.width
        gutter = " " * self.gutter_width
        return Strip([Segment(gutter + text.expandtabs(self.indent_width), style)]).crop_extend(0, width, self.rich_style)


def _key_of(text: str) -> str:
    """Names what was typed so that it can be seen in a table."""
    names = {"": "delete", " ": "␣", "\n": "↵", "\t": "⇥"}
    return names.get(text, repr(text)[1:-1])
