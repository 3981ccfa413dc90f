"""The `Engine` protocol over a link to an engine's process, which is started where none runs."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass

from engine.api import Chunk, Counters, EngineClosed, EngineError, EngineOptions, Request, State, Status
from engine.child import start_child
from engine.link import Link
from engine.starter import connect, connect_or_start
from engine.wire import (
    ERRORS,
    Answer,
    Complete,
    Failure,
    ForgetDocument,
    Prefetch,
    ToServer,
)

log = logging.getLogger(__name__)

MAX_PAUSE_S = 60.0  # between starts of an engine that keeps dying
MAX_FAILURES = 10  # in a row: from then on it takes a person to start it


@dataclass(frozen=True, slots=True)
class Reach:
    """How an engine's process is met: one that runs already (None where none does), or one that is started for us."""

    connect: Callable[[EngineOptions], Awaitable[Link | None]]
    connect_or_start: Callable[[EngineOptions], Awaitable[Link]]


async def _nobody(_options: EngineOptions) -> None:
    return


RESIDENT = Reach(connect, connect_or_start)
CHILD = Reach(_nobody, start_child)


class ProcessEngine:
    """Implements `engine.api.Engine`; connects when first used, and again after the engine was lost."""

    def __init__(self, options: EngineOptions, reach: Reach = RESIDENT) -> None:
        self._options = options
        self._reach = reach
        self._link: Link | None = None
        self._connecting: asyncio.Task[Link | EngineError] | None = None
        self._n_failures = 0  # since the last answer
        self._reason = ""  # of the last one
        self._not_before_s = 0.0
        self._closed = False

    async def complete(
        self, request: Request, on_stopped: Callable[[Counters], None] | None = None
    ) -> AsyncGenerator[Chunk, None]:
        """Streams the answer; see `Engine.complete`."""
        link = await self._connect()
        is_over = False
        with link.expect() as (message_id, replies):
            link.send(Complete(message_id, request))
            try:
                while not is_over:
                    reply = await replies.get()
                    is_over = not isinstance(reply, Answer) or reply.chunk.counters is not None
                    chunk = _chunk_of(reply, link)
                    self._n_failures = 0
                    yield chunk
            finally:
                if not is_over:
                    link.stop(message_id, on_stopped)

    async def prefetch(self, request: Request) -> None:
        """Passes the request on; where there is no engine it is dropped, for nobody waits for it."""
        try:
            link = await self._connect()
        except EngineError as error:
            log.debug("no prefetch: %s", error)
        else:
            link.send(Prefetch(request))

    async def forget(self, document: str) -> None:
        """Passes it on; a lost engine has forgotten already."""
        if self._link is not None:
            self._link.send(ForgetDocument(document))

    async def status(self) -> Status:
        """The engine's own status, or `engine_down` with the reason."""
        try:
            return await (await self._connect()).status()
        except EngineError as error:
            return Status(state=State.ENGINE_DOWN, model=self._options.model, detail=str(error))

    async def aclose(self) -> None:
        """Closes the connection; the engine lives on for others until its idle time ends."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        if self._link is not None:
            await self._link.aclose()

    async def _connect(self) -> Link:
        """The live link, made anew where it was lost.

        In a task of its own, which all callers wait for: one whose deadline comes must not leave a start half done, for
        the next would start another process.
        """
        if self._closed:
            raise EngineClosed("this engine was closed")
        if self._link is not None and self._link.is_alive:
            return self._link
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.create_task(self._open_link())
        link = await asyncio.shield(self._connecting)
        if isinstance(link, EngineError):
            raise link
        return link

    async def _open_link(self) -> Link | EngineError:
        """Connects. An engine that keeps dying is started ever more rarely, but one that another window started is met."""
        why_not = self._why_not_started()
        try:
            link = await (self._reach.connect if why_not else self._reach.connect_or_start)(self._options)
        except EngineError as error:
            if why_not is None:
                self._note_failure(str(error))
            return error
        if link is None:
            return EngineClosed(f"the engine is down: {self._reason}; {why_not}")
        link.on_lost = self._note_failure
        self._link = link
        return link

    def _why_not_started(self) -> str | None:
        """When the engine is started again, in words; None where that is now."""
        if self._n_failures >= MAX_FAILURES:
            return f"after {self._n_failures} failures it is not started again by itself; `midfill engine start` starts it"
        wait_s = self._not_before_s - time.monotonic()
        return f"it is started again in {wait_s:.0f} s" if wait_s > 0 else None

    def _note_failure(self, reason: str) -> None:
        self._n_failures += 1
        self._reason = reason
        pause_s = min(2.0 ** (self._n_failures - 2), MAX_PAUSE_S) if self._n_failures > 1 else 0.0  # at once, 1 s, 2 s, …
        self._not_before_s = time.monotonic() + pause_s
        log.warning("engine down: %s; %s", reason, self._why_not_started() or "the next request starts it again")


def _chunk_of(reply: ToServer | None, link: Link) -> Chunk:
    match reply:
        case Answer():
            return reply.chunk
        case Failure():
            raise ERRORS.get(reply.kind, EngineError)(reply.message)
        case _:
            raise EngineClosed(link.reason)
