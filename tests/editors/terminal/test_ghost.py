"""A suggestion is drawn dimmed at its place, and nothing of the source is lost around it."""

from __future__ import annotations

from pathlib import Path

import pytest
from midfill_terminal.ghost import draw
from midfill_terminal.places import Place
from midfill_terminal.session import Suggestion
from rich.console import Console

STATUS = {"model": "shipped", "device": "cpu", "dtype": "float32", "attention": "sdpa", "last": None}
TEXT = "\n\ndef f(x):\n    return x + \n\n\nprint(f(1))\n"
OFFSET = TEXT.index("+ ") + 2


def drawn(text: str, offset: int, suggestion: Suggestion | None, status: dict = STATUS) -> str:
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(draw(Place(Path("a.py"), text, offset), suggestion, status))
    return console.export_text()


@pytest.mark.parametrize(
    ("start", "end", "text", "line"),
    [
        (OFFSET, OFFSET, "1", "    return x + ▏1"),
        (OFFSET - 4, OFFSET, "x + 1", "    return x + ▏1"),  # a range that begins before the cursor
        (OFFSET, OFFSET, "1  # é🙂", "    return x + ▏1  # é🙂"),
    ],
)
def test_the_ghost_stands_at_the_cursor(start, end, text, line) -> None:
    assert line in drawn(TEXT, OFFSET, Suggestion(start, end, text))


def test_no_suggestion_is_said() -> None:
    assert "no suggestion here" in drawn(TEXT, OFFSET, None)


@pytest.mark.parametrize("offset", [0, 1, len(TEXT)])
def test_the_first_and_the_last_place_can_be_drawn(offset) -> None:
    assert "▏GHOST" in drawn(TEXT, offset, Suggestion(offset, offset, "GHOST"))


def test_blank_lines_and_an_empty_text_can_be_drawn() -> None:
    assert "▏x" in drawn("", 0, Suggestion(0, 0, "x"))


def test_the_costs_stand_below() -> None:
    counters = {"prompt": 12, "reused": 10, "prefilled": 2, "decoded": 5, "order": "spm", "finish": "newline"}
    times = {"queue_ms": 0.1, "first_ms": None, "total_ms": 20.4}
    text = drawn(TEXT, OFFSET, None, STATUS | {"last": counters | times})
    assert "prompt 12 = reused 10 + prefilled 2, decoded 5, spm, ended by newline" in text
    assert "first text –, total 20 ms" in text
