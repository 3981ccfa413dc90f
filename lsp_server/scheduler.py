"""When the engine works, and for whom: the way of one request from a place in a document to a suggestion.

For each document there is at most one turn, the newest request's, and one live decode (`backend.py`). They are
apart, because a key that agrees with the text being written ends the turn of the request before it but lets the
decode run on for the next.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from engine.api import Counters, Engine, EngineClosed, Finish, Status
from lsp_server.backend import Backend, Decode, Query
from lsp_server.documents import Document
from lsp_server.place import Place
from lsp_server.postprocess import Limits, postprocess
from lsp_server.prompt import Prompt, cut
from lsp_server.settings import Settings
from lsp_server.suggestions import Completion, Suggestion, Suggestions
from lsp_server.tracing import Tracer
from lsp_server.trigger import Mode, When, decide

_log = logging.getLogger(__name__)

_GRACE_S = 0.05  # past the engine's own deadline, so that its answer, with its counts, comes first
_LOAD_PATIENCE_S = 300.0  # of a prefetch, for an engine that is still loading


class Scheduler:
    """Owns the engine and everything that is running on it."""

    def __init__(self, open_one: Callable[[], Engine], tracer: Tracer) -> None:
        self.last: Counters | None = None  # of the newest answer
        self._backend = Backend(open_one)
        self._tracer = tracer
        self._suggestions = Suggestions()
        self._turns: dict[str, asyncio.Task[Suggestion | None]] = {}
        self._live: dict[str, Decode] = {}
        self._background: set[asyncio.Task[None]] = set()

    def start(self) -> str | None:
        """Opens the engine; gives the reason where it can't be opened."""
        return self._backend.start()

    async def suggest(self, query: Query, settings: Settings) -> Suggestion | None:
        """Answers a request; None for a superseded one, and where there is nothing to say.

        Cancelling stops the engine; so does a newer request or an edit that disagrees with what it is writing.
        """
        uri = query.document.uri
        self._end_turn(uri)
        turn = self._turns[uri] = asyncio.create_task(self._answer(query, settings))
        try:
            await asyncio.wait((turn,))
        except asyncio.CancelledError:
            turn.cancel()
            if self._turns.get(uri) is turn:  # else the decode is a newer request's
                self._stop_decode(uri)
            self._tracer.answered(query.document.version, Counters(finish=Finish.CANCELLED), "")
            raise
        finally:
            is_newest = self._turns.get(uri) is turn
            if is_newest:
                del self._turns[uri]
        if turn.cancelled() or not is_newest:
            self._tracer.silent(query.document.version, "superseded")
            return None
        return turn.result()

    def opened(self, document: Document, settings: Settings) -> None:
        """Starts afresh on a document and has its first window prefilled.

        In PSM order a cached prefix serves every cursor inside it, and at an open nobody knows where that will be.
        """
        self.closed(document.uri)
        if settings.prefetch and settings.enabled and document.text.n_chars:
            self._spawn(self._prefetch_first_window(document))

    def edited(self, document: Document) -> None:
        """Ends the document's turn, for no answer outlives its version, and its decode if the edit disagrees with it."""
        self._end_turn(document.uri)
        live = self._live.get(document.uri)
        if live and not live.agrees_with_edit(document.text):
            self._stop_decode(document.uri)

    def closed(self, uri: str) -> None:
        """Drops everything about a document, here and in the engine."""
        self._end_turn(uri)
        self._stop_decode(uri)
        self._suggestions.forget(uri)
        self._spawn(self._backend.forget(uri))

    async def status(self) -> Status:
        """Tells what the engine is and does."""
        return await self._backend.status()

    async def aclose(self) -> None:
        """Ends all work and lets go of the engine."""
        tasks = [*self._turns.values(), *(live.task for live in self._live.values()), *self._background]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._backend.aclose()

    async def _answer(self, query: Query, settings: Settings) -> Suggestion | None:
        """The way of one keystroke, top to bottom."""
        document = query.document
        if document.private or not settings.enabled:
            self._tracer.silent(document.version, "private" if document.private else "disabled")
            return None
        deadline = asyncio.get_running_loop().time() + settings.deadline_ms / 1000
        try:
            async with asyncio.timeout_at(deadline):
                prompt = cut(document.text, query.offset, await self._backend.max_chars())
        except TimeoutError:
            self._tracer.silent(document.version, "loading")
            return None
        except EngineClosed as error:
            self._tracer.silent(document.version, f"engine_down: {error}")
            return None

        place = Place.at(document.language, prompt.prefix, prompt.closers + prompt.suffix)
        text, counters = self._suggestions.recall(document.uri, prompt), Counters(finish=Finish.SHOWN)
        if text is None:
            switches = {"comments": When(settings.comments), "strings": When(settings.strings)}
            mode = decide(place, invoked=query.invoked, **switches)
            if mode is Mode.NONE:
                self._stop_decode(document.uri)
                self._tracer.silent(document.version, "no place for a suggestion")
                return None
            block = place if mode is Mode.BLOCK else None
            decode = await self._decode(query, prompt, settings=settings, deadline=deadline, block=block)
            text, counters = decode.rest_after(prompt) or "", decode.counters
        mode = Mode.BLOCK if "\n" in text else Mode.LINE  # a line's completion ends before one
        shown = postprocess(text, place, mode, Limits(max_chars=settings.max_chars, overwrites=False))
        self.last = counters
        self._tracer.answered(document.version, counters, shown.text if shown else "")
        return Suggestion(shown.text, query.offset) if shown else None

    async def _decode(
        self, query: Query, prompt: Prompt, *, settings: Settings, deadline: float, block: Place | None
    ) -> Decode:
        """Lets the live decode finish where the prompt agrees with it, and otherwise runs a new one."""
        uri = query.document.uri
        live = self._live.get(uri)
        if live and live.follow(prompt):
            await live.finish(deadline + _GRACE_S)
            if live.rest_after(prompt) is not None:
                return live
        self._stop_decode(uri)
        left_ms = (deadline - asyncio.get_running_loop().time()) * 1000
        fresh = self._live[uri] = self._backend.decode(
            query, prompt, max_tokens=settings.max_tokens, deadline_ms=left_ms, block=block
        )
        fresh.task.add_done_callback(lambda _: self._decoded(uri, fresh))
        await fresh.finish(deadline + _GRACE_S)
        return fresh

    def _decoded(self, uri: str, decode: Decode) -> None:
        """Remembers what a decode wrote, also where nobody waited for its end; one that was stopped is no longer live."""
        if self._live.get(uri) is decode:
            del self._live[uri]
            if decode.text or decode.counters.finish not in (Finish.DEADLINE, Finish.CANCELLED, Finish.ERROR):
                self._suggestions.remember(uri, Completion(decode.prompt, decode.text))

    def _stop_decode(self, uri: str) -> None:
        if live := self._live.pop(uri, None):
            live.task.cancel()

    def _end_turn(self, uri: str) -> None:
        if turn := self._turns.pop(uri, None):
            turn.cancel()

    async def _prefetch_first_window(self, document: Document) -> None:
        async with asyncio.timeout(_LOAD_PATIENCE_S):
            max_chars = await self._backend.max_chars()
        prefix = cut(document.text, min(document.text.n_chars, max_chars * 3 // 4), max_chars).prefix
        await self._backend.prefetch_prefix(document.uri, prefix)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs something that nobody waits for; its failure is a log line."""

        def ended(task: asyncio.Task[None]) -> None:
            self._background.discard(task)
            if not task.cancelled() and (error := task.exception()):
                _log.warning("in the background: %r", error)

        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(ended)
