"""When the engine works, and for whom: the way of one request from a place in a document to a suggestion.

The only module that knows the engine. For each document there is at most one turn, the newest request's, and one
live decode. They are apart, because a key that agrees with the text being written ends the turn of the request
before it but lets the decode run on for the next.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from engine.api import (
    Chunk,
    Counters,
    Engine,
    EngineClosed,
    EngineError,
    EngineKind,
    EngineOptions,
    Finish,
    Order,
    Request,
    State,
    Status,
    Stop,
    open_engine,
)
from lsp_server.documents import Document
from lsp_server.place import Place
from lsp_server.postprocess import Limits, is_past_block, postprocess
from lsp_server.prompt import Prompt, cut, is_closers
from lsp_server.settings import Settings
from lsp_server.suggestions import Completion, Suggestion, Suggestions
from lsp_server.text import Text
from lsp_server.tracing import Tracer
from lsp_server.trigger import Mode, When, decide

_log = logging.getLogger(__name__)

_GRACE_S = 0.05  # past the engine's own deadline, so that its answer, with its counts, comes first
_LOAD_POLL_S = 0.1
_LOAD_PATIENCE_S = 300.0  # of a prefetch, for an engine that is still loading


@dataclass(frozen=True, slots=True)
class Query:
    """One request: a place in one version of a document."""

    document: Document
    offset: int
    invoked: bool = False


class Scheduler:
    """Owns the engine and everything that is running on it."""

    def __init__(self, open_one: Callable[[], Engine], tracer: Tracer) -> None:
        self.last: Counters | None = None  # of the newest answer
        self._open_one = open_one
        self._opened: Engine | None = None
        self._tracer = tracer
        self._suggestions = Suggestions()
        self._turns: dict[str, asyncio.Task[Suggestion | None]] = {}
        self._live: dict[str, _Decode] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._max_chars = 0

    def start(self) -> str | None:
        """Opens the engine, which loads on its own; gives the reason where it can't be opened.

        Not done at construction: what it imports must not delay the reply to `initialize`.
        """
        try:
            self._opened = self._open_one()
            return None
        except EngineError as error:
            self._opened = _NoEngine(str(error))
            return str(error)

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
        self._spawn(self._engine.forget(uri))

    async def status(self) -> Status:
        """Tells what the engine is and does; an engine that can't say is down."""
        try:
            return await self._engine.status()
        except EngineError as error:
            return Status(state=State.ENGINE_DOWN, detail=str(error))

    async def aclose(self) -> None:
        """Ends all work and lets go of the engine."""
        tasks = [*self._turns.values(), *(live.task for live in self._live.values()), *self._background]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._opened:
            await self._opened.aclose()

    @property
    def _engine(self) -> Engine:
        if self._opened is None:
            self.start()
        assert self._opened
        return self._opened

    async def _answer(self, query: Query, settings: Settings) -> Suggestion | None:
        """The way of one keystroke, top to bottom."""
        document = query.document
        if document.private or not settings.enabled:
            self._tracer.silent(document.version, "private" if document.private else "disabled")
            return None
        deadline = asyncio.get_running_loop().time() + settings.deadline_ms / 1000
        try:
            async with asyncio.timeout_at(deadline):
                prompt = cut(document.text, query.offset, await self._known_max_chars())
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
    ) -> _Decode:
        """Lets the live decode finish where the prompt agrees with it, and otherwise runs a new one."""
        uri = query.document.uri
        live = self._live.get(uri)
        if live and live.follow(prompt):
            await live.finish(deadline + _GRACE_S)
            if live.rest_after(prompt) is not None:
                return live
        self._stop_decode(uri)
        request = Request(
            document=uri,
            prefix=prompt.prefix,
            suffix=prompt.suffix,
            stop=Stop.NONE if block else Stop.NEWLINE,
            max_tokens=settings.max_tokens,
            deadline_ms=max(1.0, (deadline - asyncio.get_running_loop().time()) * 1000),
        )
        fresh = self._live[uri] = _Decode(query, prompt, self._engine.complete(request), block)
        fresh.task.add_done_callback(lambda _: self._decoded(uri, fresh))
        await fresh.finish(deadline + _GRACE_S)
        return fresh

    def _decoded(self, uri: str, decode: _Decode) -> None:
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

    async def _known_max_chars(self) -> int:
        """Waits for the engine's window size, which it knows once it has read the model's configuration.

        Raises: EngineClosed where there is no engine to wait for.
        """
        while not self._max_chars:
            status = await self.status()
            self._max_chars = status.max_chars
            if status.state is State.ENGINE_DOWN:
                raise EngineClosed(status.detail)
            if not self._max_chars:
                await asyncio.sleep(_LOAD_POLL_S)
        return self._max_chars

    async def _prefetch_first_window(self, document: Document) -> None:
        async with asyncio.timeout(_LOAD_PATIENCE_S):
            max_chars = await self._known_max_chars()
        prefix = cut(document.text, min(document.text.n_chars, max_chars * 3 // 4), max_chars).prefix
        await self._engine.prefetch(Request(document=document.uri, prefix=prefix, suffix="", order=Order.PSM))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs something that nobody waits for; its failure is a log line."""

        def ended(task: asyncio.Task[None]) -> None:
            self._background.discard(task)
            if not task.cancelled() and (error := task.exception()):
                _log.warning("in the background: %r", error)

        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(ended)


class _Decode:
    """One completion being written; its task owns the engine's stream, and cancelling it closes the stream."""

    def __init__(self, query: Query, prompt: Prompt, stream: AsyncGenerator[Chunk, None], block: Place | None) -> None:
        self.prompt = prompt
        self.text = ""
        self.counters = Counters(finish=Finish.CANCELLED)  # until the engine says better
        self._base = query
        self._block = block  # where a block is written, which ends with its scope
        self._typed = ""  # since the prompt, by the user; what was written may not disagree with it
        self._closers_pass = False  # the editor may have typed some of it
        self.task = asyncio.create_task(self._run(stream))

    async def _run(self, stream: AsyncGenerator[Chunk, None]) -> None:
        try:
            async with aclosing(stream):
                async for chunk in stream:
                    self.text += chunk.text
                    self.counters = chunk.counters or self.counters
                    if not self._agrees() or (self._block and is_past_block(self.text, self._block)):
                        break
        except EngineError as error:
            _log.error("the engine failed: %s", error)
            self.text = ""
            self.counters = Counters(finish=Finish.ERROR)

    def follow(self, prompt: Prompt) -> bool:
        """Takes a later prompt's typing as what the completion must agree with from here on; False where it does not."""
        typed = prompt.typed_since(self.prompt)
        self._typed, self._closers_pass = typed or "", False
        return typed is not None and self._agrees()

    def rest_after(self, prompt: Prompt) -> str | None:
        return Completion(self.prompt, self.text).rest_after(prompt)

    def agrees_with_edit(self, text: Text) -> bool:
        """Tells whether an edited document still reads as if part of the completion had been typed into it.

        What is yet to be written is held to the same. The cursor is not known at an edit, so closers typed by the editor
        behind it are let pass.
        """
        base, offset = self._base.document.text, self._base.offset
        end = text.n_chars - (base.n_chars - offset - len(self.prompt.closers))
        self._typed, self._closers_pass = text.slice(offset, end), True
        return (
            end >= offset
            and text.slice(offset - len(self.prompt.prefix), offset) == self.prompt.prefix
            and text.slice(end, end + len(self.prompt.suffix)) == self.prompt.suffix
            and self._agrees()
        )

    async def finish(self, until: float) -> None:
        """Waits for the end; at `until` stops the engine, and what it wrote so far stands.

        Raises: what the engine raised, other than EngineError.
        """
        left_s = max(0.0, until - asyncio.get_running_loop().time())
        await asyncio.wait((self.task,), timeout=left_s)
        if not self.task.done():
            self.counters = Counters(finish=Finish.DEADLINE)
            self.task.cancel()
            await asyncio.wait((self.task,))
        if not self.task.cancelled():
            self.task.result()

    def _agrees(self) -> bool:
        n_same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(self._typed, self.text, strict=False)))
        rest = self._typed[n_same:]
        return not rest or n_same == len(self.text) or (self._closers_pass and is_closers(rest))


class _NoEngine:
    """What stands in for an engine that can't be opened: it says why, and never answers."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    async def complete(self, request: Request) -> AsyncGenerator[Chunk, None]:
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


def open_from(settings: Settings) -> Engine:
    """Opens the engine that the user's settings ask for.

    Raises: EngineError where they name something that does not exist.
    """
    return open_engine(
        EngineOptions(
            kind=EngineKind(settings.engine),
            model=settings.model,
            device=settings.device,
            dtype=settings.dtype,
            attention=settings.attention,
            n_threads=settings.n_threads,
            budget_bytes=None if settings.budget_mb is None else settings.budget_mb << 20,
            idle_exit_s=settings.idle_exit_s,
            script=settings.script,
        )
    )
