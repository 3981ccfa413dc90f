"""What an editor is told of the engine without asking: each change of what it is doing, and how far loading is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

_SETTLE_S = 0.2  # after a request, so that only one that takes longer shows as busy
# A ready engine is asked only when a request was made: to ask one that has ended would start it again.
_POLL_S = {"loading": 0.2, "warming": 0.2, "busy": 0.5, "engine_down": 2.0}


class StatusWatch:
    """Reads the status when there may be news in it, and passes on what has changed."""

    def __init__(self, read: Callable[[], Awaitable[dict[str, Any]]], tell: Callable[[dict[str, Any]], None]) -> None:
        self._read = read
        self._tell = tell
        self._nudged = asyncio.Event()
        self._told: dict[str, Any] | None = None

    def nudge(self) -> None:
        """Says that there may be news."""
        self._nudged.set()

    async def run(self) -> None:
        """Goes on for as long as the server does."""
        while True:
            self._nudged.clear()
            status = await self._read()
            news = {name: value for name, value in status.items() if name != "last"}
            if news != self._told:
                self._told = news
                self._tell(status)
            await self._wait(_POLL_S.get(status["state"]))

    async def _wait(self, poll_s: float | None) -> None:
        try:
            async with asyncio.timeout(poll_s):
                await self._nudged.wait()
        except TimeoutError:
            return
        await asyncio.sleep(_SETTLE_S)
