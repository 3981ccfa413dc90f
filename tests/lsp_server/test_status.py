"""What an editor is told without asking: changes, each once, and nothing while nothing changes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lsp_server.conversion import Loading
from lsp_server.status import StatusWatch
from tests.lsp_server.clock import run


class Engine:
    """Says what a timetable says, and counts how often it is asked."""

    def __init__(self, *states: tuple[float, str, float | None]) -> None:
        self._states = states
        self.n_asked = 0

    async def status(self) -> dict[str, Any]:
        self.n_asked += 1
        now = asyncio.get_running_loop().time()
        _, state, progress = max(each for each in self._states if each[0] <= now)
        return {"state": state, "progress": progress, "model": "m", "last": self.n_asked}


def told(engine: Engine, nudges: tuple[float, ...], for_s: float) -> list[tuple[float, str]]:
    """Gives what was told, and when, over a time in which the watch is nudged."""
    heard: list[tuple[float, str]] = []

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        watch = StatusWatch(engine.status, lambda status: heard.append((round(loop.time(), 1), status["state"])))
        running = asyncio.create_task(watch.run())
        for at in nudges:
            loop.call_at(at, watch.nudge)
        await asyncio.sleep(for_s)
        running.cancel()

    run(scenario())
    return heard


def test_loading_is_followed_until_it_is_over_and_then_nobody_is_asked() -> None:
    engine = Engine((0, "loading", 0.0), (0.5, "loading", 0.5), (0.9, "warming", None), (1.9, "ready", None))
    assert told(engine, (), 100) == [(0.0, "loading"), (0.6, "loading"), (1.0, "warming"), (2.0, "ready")]
    assert engine.n_asked < 15


def test_a_short_request_is_not_news_and_a_long_one_is_busy() -> None:
    engine = Engine((0, "ready", None), (10, "busy", None), (10.1, "ready", None), (20, "busy", None), (22.1, "ready", None))
    assert told(engine, (10, 10.1, 20), 100) == [(0.0, "ready"), (20.2, "busy"), (22.2, "ready")]


def test_an_engine_that_is_down_is_asked_again() -> None:
    engine = Engine((0, "engine_down", None), (5, "ready", None))
    assert told(engine, (), 10) == [(0.0, "engine_down"), (6.0, "ready")]


class Bars:
    """An editor's progress bars, which are made when it gets round to it."""

    def __init__(self, *, makes_at_once: bool) -> None:
        self.tokens: dict[str, Any] = {}
        self.said: list[str] = []
        self.pending: list[Any] = []
        self._makes_at_once = makes_at_once

    def create(self, token: str, then: Any) -> None:
        self.pending.append(then)
        if self._makes_at_once:
            then(None)

    def begin(self, token: str, value: Any) -> None:
        self.said.append(f"begin {value.percentage}")

    def report(self, token: str, value: Any) -> None:
        self.said.append(f"report {value.percentage}")

    def end(self, token: str, value: Any) -> None:
        self.said.append(f"end {value.message}")


TIMES = [("ready", None), ("loading", 0.0), ("loading", 0.5), ("warming", None), ("ready", None), ("busy", None)]


@pytest.mark.parametrize(("makes_at_once", "said"), [(True, ["begin 0", "report 50", "report None", "end ready"]), (False, [])])
def test_loading_is_a_progress_bar_unless_it_ends_before_the_bar_is_there(makes_at_once, said) -> None:
    bars = Bars(makes_at_once=makes_at_once)
    loading = Loading(bars)  # type: ignore[arg-type]
    for state, progress in TIMES:
        loading.tell({"state": state, "progress": progress, "model": "m"})
    for then in bars.pending if not makes_at_once else ():
        then(None)
    assert bars.said == said
