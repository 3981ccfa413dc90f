"""The engine as the server sees it: opened, asked, and replaced where it can't be opened. Nothing else opens one."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncGenerator, Callable

from engine.api import (
    Chunk,
    Counters,
    Engine,
    EngineClosed,
    EngineError,
    EngineKind,
    EngineOptions,
    Order,
    Request,
    State,
    Status,
    Stop,
    open_engine,
)
from lsp_server.confidence import Thresholds
from lsp_server.decode import Decode, Task
from lsp_server.documents import Document
from lsp_server.prompt import Prompt, cut
from lsp_server.settings import Settings
from lsp_server.verdict import Reason, Verdict

_LOAD_POLL_S = 0.1
_LOAD_PATIENCE_S = 300.0  # of a prefetch, for an engine that is still loading


class Backend:
    """Owns the engine; opened at `start`, for what that imports must not delay the reply to `initialize`."""

    def __init__(self, open_one: Callable[[], Engine], end_process: tuple[str, ...] = ()) -> None:
        self._open_one = open_one
        self._end_process = end_process  # the command, where the engine is a process of its own
        self._opened: Engine | None = None
        self._max_chars = 0
        self._status = Status(state=State.LOADING)  # as last heard
        self.gate: Thresholds | None = None  # of the model, once it is known

    def start(self) -> str | None:
        """Opens the engine, which loads on its own; gives the reason where it can't be opened."""
        try:
            self._opened = self._open_one()
            return None
        except EngineError as error:
            self._opened = _NoEngine(str(error))
            return str(error)

    async def status(self) -> Status:
        """Tells what the engine is and does; an engine that can't say is down."""
        try:
            self._status = await self._engine.status()
        except EngineError as error:
            self._status = Status(state=State.ENGINE_DOWN, detail=str(error))
        return self._status

    @property
    def loading(self) -> Verdict | None:
        """Says how far the model was when last heard of, if that was still loading."""
        if self._status.state not in (State.LOADING, State.WARMING):
            return None
        progress = self._status.progress
        return Verdict(Reason.LOADING, "" if progress is None else f"{progress:.0%} of its weights are read")

    async def max_chars(self) -> int:
        """Waits for the engine's window size, which it knows once it has read the model's configuration.

        Raises: EngineClosed where there is no engine to wait for.
        """
        while not self._max_chars:
            status = await self.status()
            self._max_chars = status.max_chars
            if status.gate:
                self.gate = Thresholds(status.gate.min_logprob, status.gate.mean_logprob)
            if status.state is State.ENGINE_DOWN:
                raise EngineClosed(status.detail)
            if not self._max_chars:
                await asyncio.sleep(_LOAD_POLL_S)
        return self._max_chars

    def decode(self, task: Task, settings: Settings, deadline_ms: float, count: Callable[[Counters], None]) -> Decode:
        """Has completions written; `count` is told once what they cost, also where they were stopped."""
        request = Request(
            document=task.origin.query.document.uri,
            prefix=task.prompt.prefix,
            suffix=task.prompt.suffix,
            stop=Stop.NONE if task.end else Stop.NEWLINE,
            max_tokens=settings.max_tokens,
            n=len(task.ids),
            deadline_ms=max(1.0, deadline_ms),
            speculative=bool(task.ahead_of),
        )
        return Decode(task, self._engine.complete(request, count), count)

    async def prefetch(self, uri: str, prompt: Prompt) -> None:
        """Has a prompt cached, while nobody waits."""
        await self._engine.prefetch(Request(document=uri, prefix=prompt.prefix, suffix=prompt.suffix))

    async def prefetch_first_window(self, document: Document) -> None:
        """Has the first window cached in PSM order, where it serves every cursor inside it."""
        async with asyncio.timeout(_LOAD_PATIENCE_S):
            max_chars = await self.max_chars()
        prefix = cut(document.text, min(document.text.n_chars, max_chars * 3 // 4), max_chars).prefix
        await self._engine.prefetch(Request(document=document.uri, prefix=prefix, suffix="", order=Order.PSM))

    async def forget(self, uri: str) -> None:
        await self._engine.forget(uri)

    async def restart(self) -> None:
        """Lets go of the engine, ends its process where it has one, and opens it again."""
        await self.aclose()
        if self._end_process:
            process = await asyncio.create_subprocess_exec(*self._end_process, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL)
            await process.wait()
        self._max_chars = 0
        self.start()

    async def aclose(self) -> None:
        if self._opened:
            await self._opened.aclose()

    @property
    def _engine(self) -> Engine:
        if self._opened is None:
            self.start()
        assert self._opened
        return self._opened


class _NoEngine:
    """What stands in for an engine that can't be opened: it says why, and never answers."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    async def complete(
        self, request: Request, on_stopped: Callable[[Counters], None] | None = None
    ) -> AsyncGenerator[Chunk, None]:
        raise EngineClosed(self._reason)
        yield Chunk(text="")

    async def prefetch(self, request: Request) -> None:
        return

    async def forget(self, document: str) -> None:
        return

    async def status(self) -> Status:
        return Status(state=State.ENGINE_DOWN, detail=self._reason)

    async def aclose(self) -> None:
        return


def end_process_of(settings: Settings) -> tuple[str, ...]:
    """Gives the command that ends the engine's process, where it has one: as `midfill engine stop`, and as slow to import."""
    return (sys.executable, "-P", "-m", "engine", "stop") if engine_options(settings).is_shared else ()


def engine_options(settings: Settings) -> EngineOptions:
    """Gives the user's settings in the engine's own terms."""
    return EngineOptions(
        kind=EngineKind(settings.engine),
        model=settings.model,
        device=settings.device,
        dtype=settings.dtype,
        attention=settings.attention,
        n_threads=settings.n_threads,
        budget_bytes=None if settings.budget_mb is None else settings.budget_mb << 20,
        background_tokens_per_min=settings.background_tokens_per_min,
        idle_exit_s=settings.idle_exit_s,
        script=settings.script,
    )


def open_from(settings: Settings) -> Engine:
    """Opens the engine that the user's settings ask for.

    Raises: EngineError where they name something that does not exist.
    """
    return open_engine(engine_options(settings))
