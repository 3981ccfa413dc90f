"""The engine as the server sees it: opened, asked, read from, and replaced where it can't be opened.

The one module that opens an engine or reads its stream; the scheduler knows its plain data only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from itertools import takewhile

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
from lsp_server.postprocess import is_past_block
from lsp_server.prompt import Prompt, is_closers
from lsp_server.settings import Settings
from lsp_server.suggestions import Completion
from lsp_server.text import Text

_log = logging.getLogger(__name__)

_LOAD_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Query:
    """One request: a place in one version of a document."""

    document: Document
    offset: int
    invoked: bool = False


class Backend:
    """Owns the engine; opened at `start`, for what that imports must not delay the reply to `initialize`."""

    def __init__(self, open_one: Callable[[], Engine]) -> None:
        self._open_one = open_one
        self._opened: Engine | None = None
        self._max_chars = 0

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
            return await self._engine.status()
        except EngineError as error:
            return Status(state=State.ENGINE_DOWN, detail=str(error))

    async def max_chars(self) -> int:
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

    def decode(self, query: Query, prompt: Prompt, *, max_tokens: int, deadline_ms: float, block: Place | None) -> Decode:
        """Has a completion written: a line, or where a block begins, all of it."""
        request = Request(
            document=query.document.uri,
            prefix=prompt.prefix,
            suffix=prompt.suffix,
            stop=Stop.NONE if block else Stop.NEWLINE,
            max_tokens=max_tokens,
            deadline_ms=max(1.0, deadline_ms),
        )
        return Decode(query, prompt, self._engine.complete(request), block)

    async def prefetch_prefix(self, uri: str, prefix: str) -> None:
        """Has a prefix cached in PSM order, where it serves every cursor inside it."""
        await self._engine.prefetch(Request(document=uri, prefix=prefix, suffix="", order=Order.PSM))

    async def forget(self, uri: str) -> None:
        await self._engine.forget(uri)

    async def aclose(self) -> None:
        if self._opened:
            await self._opened.aclose()

    @property
    def _engine(self) -> Engine:
        if self._opened is None:
            self.start()
        assert self._opened
        return self._opened


class Decode:
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
