"""The `Engine` protocol over the resident engine's socket; starts that engine where none runs."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator

from engine.api import Chunk, EngineClosed, EngineError, EngineOptions, Request, State, Status
from engine.link import Link
from engine.starter import connect_or_start
from engine.wire import (
    ERRORS,
    Answer,
    AskStatus,
    Cancel,
    Complete,
    Failure,
    ForgetDocument,
    Prefetch,
    Shutdown,
    TellStatus,
    ToServer,
)

log = logging.getLogger(__name__)

MAX_PAUSE_S = 60.0  # between starts of an engine that keeps dying


class ResidentEngine:
    """Implements `engine.api.Engine`; connects when first used, and again after the engine was lost."""

    def __init__(self, options: EngineOptions) -> None:
        self._options = options
        self._link: Link | None = None
        self._connecting = asyncio.Lock()
        self._n_failures = 0  # since the last answer
        self._not_before_s = 0.0
        self._closed = False

    async def complete(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Streams the answer; see `Engine.complete`."""
        link = await self._connect()
        with link.expect() as (message_id, replies):
            link.send(Complete(message_id, request))
            try:
                while True:
                    chunk = _chunk_of(await replies.get())
                    self._n_failures = 0
                    yield chunk
                    if chunk.counters is not None:
                        return
            finally:
                link.send(Cancel(message_id))

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
            link = await self._connect()
        except EngineError as error:
            return self._down(str(error))
        with link.expect() as (message_id, replies):
            link.send(AskStatus(message_id))
            reply = await replies.get()
        return reply.status if isinstance(reply, TellStatus) else self._down("the connection to the engine was lost")

    async def stop_engine(self) -> None:
        """Ends the engine process, for every window, and waits until it has gone.

        Raises: EngineError where there is none to reach.
        """
        link = await self._connect()
        link.on_lost = lambda: None  # that is what was asked for
        with link.expect() as (_, replies):
            link.send(Shutdown())
            await replies.get()

    async def aclose(self) -> None:
        """Closes the connection; the engine lives on for others until its idle time ends."""
        self._closed = True
        if self._link is not None:
            await self._link.aclose()

    async def _connect(self) -> Link:
        """The live link, made anew where it was lost; an engine that keeps dying is started ever more rarely."""
        async with self._connecting:
            if self._closed:
                raise EngineClosed("this engine was closed")
            if self._link is not None and self._link.is_alive:
                return self._link
            wait_s = self._not_before_s - time.monotonic()
            if wait_s > 0:
                raise EngineClosed(f"the engine failed {self._n_failures} times; it is started again in {wait_s:.0f} s")
            try:
                self._link = await connect_or_start(self._options)
            except EngineError as error:
                self._note_failure(str(error))
                raise
            self._link.on_lost = lambda: self._note_failure("the connection was lost")
            return self._link

    def _note_failure(self, reason: str) -> None:
        self._n_failures += 1
        pause_s = min(2.0 ** (self._n_failures - 2), MAX_PAUSE_S) if self._n_failures > 1 else 0.0  # at once, 1 s, 2 s, …
        self._not_before_s = time.monotonic() + pause_s
        log.warning("engine down: %s; next start in %.0f s at the earliest", reason, pause_s)

    def _down(self, reason: str) -> Status:
        return Status(state=State.ENGINE_DOWN, model=self._options.model, detail=reason)


def _chunk_of(reply: ToServer | None) -> Chunk:
    match reply:
        case Answer():
            return reply.chunk
        case Failure():
            raise ERRORS.get(reply.kind, EngineError)(reply.message)
        case _:
            raise EngineClosed("the connection to the engine was lost")
