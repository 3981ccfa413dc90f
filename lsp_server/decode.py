"""Completions while they are written: read from the engine's stream, and held to what is typed meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import takewhile

from engine.api import Chunk, Counters, EngineError, Finish
from lsp_server.documents import Query
from lsp_server.prompt import Prompt, is_closers
from lsp_server.suggestions import Completion
from lsp_server.text import Text
from lsp_server.verdict import Reason

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where typing is counted from, to tell whether it agrees with what is being written."""

    query: Query
    prompt: Prompt

    def typed_in(self, text: Text) -> str | None:
        """Gives what an edited document has in place of the cursor; None where anything else was changed.

        The cursor is not known at an edit: closers behind it, the editor's or those that stood there, are part of this.
        """
        base, offset, prompt = self.query.document.text, self.query.offset, self.prompt
        end = text.n_chars - (base.n_chars - offset - len(prompt.closers))
        is_elsewhere = (
            end < offset
            or text.slice(offset - len(prompt.prefix), offset) != prompt.prefix
            or text.slice(end, end + len(prompt.suffix)) != prompt.suffix
        )
        return None if is_elsewhere else text.slice(offset, end)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is to be written: completions of a prompt, each until `end` finds one in its text, or else the line's.

    `ahead_of` is a suggestion on the screen, behind which this goes on in case that it is accepted: nobody waits for it.
    """

    origin: Origin
    prompt: Prompt
    ids: tuple[str, ...]
    end: Callable[[str], int | None] | None = None
    ahead_of: str = ""


@dataclass(frozen=True, slots=True)
class Behind:
    """A suggestion on the screen, for the place where it ends."""

    id: str
    origin: Origin
    text: str

    @property
    def accepted(self) -> Query:
        """The document as if it had been accepted, and the cursor behind it."""
        query = self.origin.query
        place = query.document.text.position(query.offset)
        text = query.document.text.replace(place, place, self.text)
        return Query(replace(query.document, text=text), query.offset + len(self.text))

    def agrees_with_edit(self, text: Text) -> bool:
        """Tells whether an edited document still reads as if part of it, or all and more, had been typed."""
        typed = self.origin.typed_in(text)
        return typed is not None and agrees(typed, self.text, closers_pass=True)


class Decode:
    """Completions being written; its task owns the engine's stream, and cancelling it closes the stream."""

    def __init__(self, task: Task, stream: AsyncGenerator[Chunk, None], count: Callable[[Counters], None]) -> None:
        """`count` is told the counters that come in the stream."""
        self.what = task
        self._count = count
        self.counters = Counters(finish=Finish.CANCELLED)  # until the engine says better
        self._texts = [""] * len(task.ids)
        self._logprobs: list[tuple[float, ...]] = [()] * len(task.ids)
        self._ends: list[tuple[int, ...]] = [()] * len(task.ids)  # of the tokens, as offsets in the text
        self._ended = [False] * len(task.ids)
        self._typed = ""  # since the origin, by the user; what was written may not disagree with it
        self._closers_pass = False  # the editor may have typed some of it
        self.task = asyncio.create_task(self._run(stream))

    @property
    def completions(self) -> tuple[Completion, ...]:
        """What is written, best first."""
        written = zip(self.what.ids, self._texts, self._logprobs, self._ends, strict=True)
        is_cut = self.counters.finish is Finish.DEADLINE
        completions = [
            Completion(each_id, self.what.prompt, text, logprobs, ends, is_cut) for each_id, text, logprobs, ends in written
        ]
        return tuple(sorted(completions, key=lambda each: -each.mean_logprob))

    @property
    def failure(self) -> Reason | None:
        """Tells what kept it from being whole, if anything did."""
        return {Finish.DEADLINE: Reason.DEADLINE, Finish.ERROR: Reason.ENGINE_FAILED}.get(self.counters.finish)

    async def _run(self, stream: AsyncGenerator[Chunk, None]) -> None:
        loop = asyncio.get_running_loop()
        started_s, first_ms = loop.time(), None
        try:
            async with aclosing(stream):
                async for chunk in stream:
                    first_ms = first_ms or (loop.time() - started_s) * 1000
                    if chunk.counters:
                        self.counters = chunk.counters
                        self._count(chunk.counters)
                    self._take(chunk)
                    if all(self._ended):  # a stream that is closed tells no counters any more
                        n_tokens = sum(len(each) for each in self._logprobs)
                        total_ms = (loop.time() - started_s) * 1000
                        self.counters = Counters(decoded=n_tokens, first_ms=first_ms, total_ms=total_ms, finish=Finish.BLOCK)
                    if not self._agrees() or all(self._ended):
                        break
        except EngineError as error:
            _log.error("the engine failed: %s", error)
            self._texts = [""] * len(self._texts)
            self.counters = Counters(finish=Finish.ERROR)

    def _take(self, chunk: Chunk) -> None:
        """Adds a piece to its alternative, unless that has its end; where it has it now, cuts it there."""
        if self._ended[chunk.choice]:
            return
        text = self._texts[chunk.choice] = self._texts[chunk.choice] + chunk.text
        self._logprobs[chunk.choice] += chunk.logprobs
        self._ends[chunk.choice] += (len(text),) * len(chunk.logprobs)  # nearly: a chunk is one token but where drafts are
        if self.what.end and (end := self.what.end(text)) is not None:
            self._texts[chunk.choice] = text[:end]
            self._ended[chunk.choice] = True

    def follow(self, prompt: Prompt) -> bool:
        """Takes a later prompt's typing as what the completion must agree with from here on; False where it does not."""
        typed = prompt.typed_since(self.what.prompt)
        self._typed, self._closers_pass = self.what.ahead_of + (typed or ""), False
        return typed is not None and self._agrees()

    def after(self, prompt: Prompt) -> tuple[Completion, ...]:
        """Gives what is left of what was written, for a place reached by typing."""
        return tuple(rest for each in self.completions if (rest := each.after(prompt)))

    def agrees_with_edit(self, text: Text) -> bool:
        """Tells whether an edited document still reads as if part of the completion had been typed into it.

        What is yet to be written is held to the same. The cursor is not known at an edit, so closers typed by the editor
        behind it are let pass.
        """
        typed = self.what.origin.typed_in(text)
        self._typed, self._closers_pass = typed or "", True
        return typed is not None and self._agrees()

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
        """Tells whether what was typed can still be the beginning of one of the completions."""
        return any(agrees(self._typed, self.what.ahead_of + text, closers_pass=self._closers_pass) for text in self._texts)


def agrees(typed: str, text: str, *, closers_pass: bool) -> bool:
    """Tells whether one of two texts begins with the other, but for closers that end what was typed."""
    n_same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(typed, text, strict=False)))
    rest = typed[n_same:]
    return not rest or n_same == len(text) or (closers_pass and is_closers(rest))
