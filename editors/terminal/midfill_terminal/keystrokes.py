"""The truth about each keystroke: what it cost, in tokens and in milliseconds."""

from __future__ import annotations

from typing import Any

from textual.widgets import DataTable

COLUMNS = ("key", "reused", "prefilled", "decoded", "first token", "total", "ended by", "suggestion")
N_ROWS = 50


class Keystrokes(DataTable[str]):
    """The last keystrokes, newest first."""

    def on_mount(self) -> None:
        self.cursor_type = "none"
        self.can_focus = False
        self.add_columns(*COLUMNS)
        self._rows: list[tuple[str, ...]] = []

    def add(self, key: str, counters: dict[str, Any] | None, suggestion: str | None) -> None:
        """Notes what a keystroke cost; no counters: the engine has not been asked."""
        self._rows = [row(key, counters, suggestion), *self._rows][:N_ROWS]
        self.clear()
        self.add_rows(self._rows)


def row(key: str, counters: dict[str, Any] | None, suggestion: str | None) -> tuple[str, ...]:
    shown = "–" if suggestion is None else repr(suggestion)[1:-1]
    if counters is None:
        return (key, *["–"] * 6, shown)
    return (
        key,
        *(str(counters[name]) for name in ("reused", "prefilled", "decoded")),
        *(_ms(counters[name]) for name in ("first_ms", "total_ms")),
        str(counters["finish"]),
        shown,
    )


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f} ms"
