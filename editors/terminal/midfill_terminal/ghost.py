"""Drawing source code with a suggestion in it, as an editor would, and the counters under it."""

from __future__ import annotations

from typing import Any

from pygments.lexers import get_lexer_by_name
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.syntax import Syntax
from rich.text import Text

from midfill_terminal.places import Place
from midfill_terminal.session import Suggestion, language_of

LINES_ABOVE, LINES_BELOW = 7, 4
GHOST = "dim italic"
CURSOR = "▏"


def draw(place: Place, suggestion: Suggestion | None, status: dict[str, Any]) -> RenderableType:
    """The lines around the place with the suggestion dimmed inside them; counters and times below."""
    title = f"{place.path.name}:{place.line + 1}:{place.character + 1}"
    return Group(Panel(_code(place, suggestion), title=title, title_align="left", border_style="dim"), _cost(status))


def _code(place: Place, suggestion: Suggestion | None) -> Text:
    shown = suggestion or Suggestion(place.offset, place.offset, "")
    first = _line_start(place.text, place.offset, LINES_ABOVE)
    last = _line_end(place.text, place.offset, LINES_BELOW)
    # Without these the lexer would drop blank lines at both ends, and offsets would no longer be true.
    lexer = get_lexer_by_name(language_of(place), stripnl=False, ensurenl=False)
    highlighted = Syntax("", lexer, theme="ansi_dark").highlight(place.text)
    _, before, _, after, _ = highlighted.divide([first, place.offset, max(shown.end, place.offset), last])
    # A range that begins before the cursor replaces typed text by itself followed by more: only the rest is a ghost.
    ghost = shown.text[place.offset - shown.start :] if suggestion else " (no suggestion here)"
    return before + Text(CURSOR) + Text(ghost, GHOST) + after


def _cost(status: dict[str, Any]) -> Text:
    last = status["last"]
    line = Text(style="dim")
    line.append(f"  {status['model']} on {status['device']}, {status['dtype']}, {status['attention']}")
    if last is not None:
        line.append(f"\n  prompt {last['prompt']} = reused {last['reused']} + prefilled {last['prefilled']}")
        line.append(f", decoded {last['decoded']}, {last['order']}, ended by {last['finish']}\n")
        first = "–" if last["first_ms"] is None else f"{last['first_ms']:.0f} ms"
        line.append(f"  queue {last['queue_ms']:.0f} ms, first text {first}, total {last['total_ms']:.0f} ms")
    return line


def _line_start(text: str, offset: int, n_above: int) -> int:
    for _ in range(n_above + 1):
        offset = text.rfind("\n", 0, offset)
        if offset < 0:
            return 0
    return offset + 1


def _line_end(text: str, offset: int, n_below: int) -> int:
    for _ in range(n_below + 1):
        offset = text.find("\n", offset) + 1
        if offset == 0:
            return len(text)
    return offset - 1
