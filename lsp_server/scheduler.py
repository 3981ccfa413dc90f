"""When the engine works, and for whom: the way of one request from a place in a document to a suggestion.

For each document there is at most one turn, the newest request's, and one live decode (`backend.py`). They are
apart, because a key that agrees with the text being written ends the turn of the request before it but lets the
decode run on for the next.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from engine.api import Counters, Engine, EngineClosed, Finish, Status
from lsp_server.backend import Backend
from lsp_server.debounce import Rhythm, sleep_until
from lsp_server.decode import Behind, Decode, Origin, Task
from lsp_server.documents import Document, Edit, Query
from lsp_server.indentation import unit_of
from lsp_server.judgement import Judged, block_end, judge, mode_at, next_line_end, place_at, thresholds, why_off, why_silent
from lsp_server.prompt import after_enter, cut
from lsp_server.settings import Settings
from lsp_server.suggestions import Completion, Served, Suggestion, Suggestions
from lsp_server.tracing import Tracer
from lsp_server.trigger import Mode
from lsp_server.verdict import Reason, Verdict

_log = logging.getLogger(__name__)

_GRACE_S = 0.05  # past the engine's own deadline, so that its answer, with its counts, comes first
_REST_S = 0.15  # without a key, after which it pays to go on behind a suggestion
_BEHIND_S = 10.0  # for that


class _Turn:
    """A request that is being answered, by the task that it came in; over once a newer one or an edit has ended it."""

    def __init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.task: asyncio.Task[Any] = task
        self.is_over = False


class Scheduler:
    """Owns the engine and everything that is running on it."""

    def __init__(self, open_one: Callable[[], Engine], tracer: Tracer, end_process: tuple[str, ...] = ()) -> None:
        self.last: Counters | None = None  # of the newest answer
        self.verdicts: dict[str, Verdict] = {}  # the last at each document
        self.client_waits = False  # for the typing to rest, before it asks
        self._backend = Backend(open_one, end_process)
        self._tracer = tracer
        self._rhythm = Rhythm()
        self._suggestions = Suggestions()
        self._turns: dict[str, _Turn] = {}
        self._live: dict[str, Decode] = {}
        self._behind: dict[str, Behind] = {}
        self._resting: dict[str, Query] = {}  # the last request, while nothing was typed since
        self._background: set[asyncio.Task[None]] = set()

    def start(self) -> str | None:
        """Opens the engine; gives the reason where it can't be opened."""
        return self._backend.start()

    async def suggest(self, query: Query, settings: Settings) -> tuple[Suggestion, ...]:
        """Answers a request, best first; nothing for a superseded one, and where there is nothing to say.

        Cancelling stops the engine; so does a newer request or an edit that disagrees with what it is writing.
        """
        uri = query.document.uri
        self._end_turn(uri)
        turn = self._turns[uri] = _Turn()
        suggestions: tuple[Suggestion, ...] = ()
        try:
            suggestions = await self._answer(query, settings)
        except asyncio.CancelledError:
            if not turn.is_over or turn.task.uncancel():  # by the client
                if not turn.is_over:  # else the decode is a newer request's
                    self._stop_decode(uri)
                self._tracer.answered(query.document.version, Counters(finish=Finish.CANCELLED), "")
                raise
        finally:
            if not turn.is_over:
                del self._turns[uri]
        if turn.is_over:
            self._tracer.silent(query.document.version, Reason.SUPERSEDED)
            return ()
        if settings.prefetch and settings.enabled and not query.document.private:
            self._resting[uri] = query
            asyncio.get_running_loop().call_later(_REST_S, self._rested, query)
        return suggestions

    def opened(self, document: Document, settings: Settings) -> None:
        """Starts afresh on a document and has its first window prefilled.

        In PSM order a cached prefix serves every cursor inside it, and at an open nobody knows where that will be.
        """
        self.closed(document.uri)
        if settings.prefetch and settings.enabled and document.text.n_chars:
            self._spawn(self._backend.prefetch_first_window(document))

    def edited(self, document: Document, edit: Edit | None = None) -> None:
        """Ends the document's turn, for no answer outlives its version, and its decode if the edit disagrees with it."""
        self._rhythm.key(asyncio.get_running_loop().time())
        self._end_turn(document.uri)
        self._resting.pop(document.uri, None)
        self._suggestions.edited(document.uri, edit)
        behind = self._behind.get(document.uri)
        if behind and not behind.agrees_with_edit(document.text):
            self._stop_behind(document.uri)
        live = self._live.get(document.uri)
        if live and not live.agrees_with_edit(document.text):
            self._stop_decode(document.uri)

    def dismissed(self, suggestion_id: str) -> None:
        """Takes a suggestion off the screen for good."""
        if found := self._suggestions.find(suggestion_id):
            self._stop_behind(found[0].query.document.uri)
            self._suggestions.dismiss(suggestion_id)

    def accepted(self, suggestion_id: str, settings: Settings) -> None:
        """Has the next suggestion written, unless it is already."""
        if found := self._suggestions.find(suggestion_id):
            self._suggestions.accept(suggestion_id)
            query, whole = found[0].query, found[1]
            behind = self._behind.setdefault(query.document.uri, Behind(whole.id, Origin(query, whole.prompt), whole.text))
            self._spawn(self._go_on_behind(behind, settings))

    def closed(self, uri: str) -> None:
        """Drops everything about a document, here and in the engine."""
        self._end_turn(uri)
        self._stop_decode(uri)
        self._behind.pop(uri, None)
        self._resting.pop(uri, None)
        self._suggestions.forget(uri)
        self.verdicts.pop(uri, None)
        self._spawn(self._backend.forget(uri))

    async def status(self) -> Status:
        """Tells what the engine is and does."""
        return await self._backend.status()

    def find(self, suggestion_id: str) -> tuple[Served, Completion] | None:
        """Gives a suggestion that was served, whole."""
        return self._suggestions.find(suggestion_id)

    async def restart(self) -> None:
        """Gives the engine up for a fresh one; what was asked of it ends with nothing."""
        for uri in [*self._turns, *self._live]:
            self._end_turn(uri)
            self._stop_decode(uri)
        self._behind.clear()
        await self._backend.restart()

    async def aclose(self) -> None:
        """Ends all work and lets go of the engine."""
        turns = [turn.task for turn in self._turns.values()]
        for uri in [*self._turns]:
            self._end_turn(uri)
        self._resting.clear()
        self._behind.clear()
        tasks = [*(live.task for live in self._live.values()), *self._background]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*turns, *tasks, return_exceptions=True)
        await self._backend.aclose()

    async def _answer(self, query: Query, settings: Settings) -> tuple[Suggestion, ...]:
        """The way of one keystroke, top to bottom."""
        document = query.document
        if off := why_off(document, settings):
            return self._silent(query, off)
        started = asyncio.get_running_loop().time()
        deadline = started + settings.deadline_ms / 1000
        try:
            async with asyncio.timeout_at(deadline):
                prompt = cut(document.text, query.offset, await self._backend.max_chars())
        except TimeoutError:
            return self._silent(query, self._backend.loading or Verdict(Reason.LOADING))
        except EngineClosed as error:
            return self._silent(query, Verdict(Reason.ENGINE_DOWN, str(error)))
        if shown := self._suggestions.shown(document.uri, prompt, invoked=query.invoked):
            return self._serve(query, Judged(shown), Counters(finish=Finish.SHOWN), settings)
        place, held_to = place_at(query), thresholds(self._backend.gate, query, settings)
        show_s = started + settings.show_after_ms / 1000 * (not query.invoked)
        recalled = self._suggestions.recall(document.uri, prompt, invoked=query.invoked)
        if recalled is not None:
            await sleep_until(show_s)
            return self._serve(query, judge(recalled, place, held_to, settings), Counters(finish=Finish.SHOWN), settings)
        if silent := why_silent(place, query, settings):
            self._stop_decode(document.uri)
            return self._silent(query, silent)
        end = partial(block_end, place=place) if mode_at(place, query, settings) is Mode.BLOCK else None
        ids = [self._suggestions.new_id() for _ in range(settings.alternatives if query.invoked else 1)]
        task = Task(origin=Origin(query, prompt), prompt=prompt, ids=tuple(ids), end=end)
        decode = await self._decode(task, settings, deadline)
        judged = judge(decode.after(prompt), place, held_to, settings, failure=decode.failure)
        if judged.verdict.reason is Reason.DEADLINE and (loading := self._backend.loading):
            judged = Judged(verdict=loading)
        await sleep_until(show_s)
        return self._serve(query, judged, decode.counters, settings)

    def _serve(self, query: Query, judged: Judged, counters: Counters, settings: Settings) -> tuple[Suggestion, ...]:
        """Shows the choices that are wanted and notes what they cost."""
        choices, verdict = judged.choices, judged.verdict
        if choices and not query.invoked and (unwanted := self._suggestions.why_unwanted(query, choices[0])):
            choices, verdict = (), Verdict(unwanted)
        self.verdicts[query.document.uri] = verdict
        self.last = counters
        suggestions = self._show(query, choices)
        loop, uri, first = asyncio.get_running_loop(), query.document.uri, next(iter(choices), None)
        # A timer that is due at once, for its turn comes after the reply: that was called already when the timers are read.
        loop.call_later(0, self._tracer.answered, query.document.version, counters, first.text if first else "")
        if first and settings.compute_ahead and uri not in self._behind:
            behind = self._behind[uri] = Behind(first.id, Origin(query, first.prompt), first.text)
            loop.call_later(_REST_S, self._rested_behind, behind, settings)
        return suggestions

    def _show(self, query: Query, choices: tuple[Completion, ...]) -> tuple[Suggestion, ...]:
        """Notes what is on the screen from here on; what goes on behind anything else is written for nobody."""
        uri = query.document.uri
        behind = self._behind.get(uri)
        if behind and (not choices or behind.id != choices[0].id):
            self._stop_behind(uri)
        return self._suggestions.serve(query, choices)

    def _silent(self, query: Query, verdict: Verdict) -> tuple[Suggestion, ...]:
        self._show(query, ())
        self.verdicts[query.document.uri] = verdict
        self._tracer.silent(query.document.version, str(verdict))
        return ()

    async def _decode(self, task: Task, settings: Settings, deadline: float) -> Decode:
        """Lets the live decode finish where the prompt agrees with it, and otherwise runs a new one."""
        uri = task.origin.query.document.uri
        live = self._live.get(uri)
        if live and len(live.what.ids) >= len(task.ids) and live.follow(task.prompt):
            await live.finish(deadline + _GRACE_S)
            if live.after(task.prompt):
                return live
        self._stop_decode(uri)
        wait_s = 0.0 if task.origin.query.invoked else self._wait_s(settings)
        await asyncio.sleep(wait_s)
        started = asyncio.get_running_loop().time()
        fresh = self._start_decode(task, settings, deadline + wait_s)
        await fresh.finish(deadline + wait_s + _GRACE_S)
        self._rhythm.answer(asyncio.get_running_loop().time() - started)
        return fresh

    def _wait_s(self, settings: Settings) -> float:
        if settings.debounce_ms is not None:
            return settings.debounce_ms / 1000
        return 0.0 if self.client_waits else self._rhythm.wait_s

    def _start_decode(self, task: Task, settings: Settings, deadline: float) -> Decode:
        uri = task.origin.query.document.uri
        self._stop_decode(uri)
        left_ms = (deadline - asyncio.get_running_loop().time()) * 1000
        stats = self._tracer.stats
        count = stats.written_ahead if task.ahead_of else stats.written
        fresh = self._live[uri] = self._backend.decode(task, settings, left_ms, count)
        fresh.task.add_done_callback(lambda _: self._decoded(uri, fresh))
        return fresh

    def _decoded(self, uri: str, decode: Decode) -> None:
        """Remembers what a decode wrote, also where nobody waited for its end; one that was stopped is no longer live."""
        if self._live.get(uri) is decode:
            del self._live[uri]
            is_whole = decode.counters.finish not in (Finish.DEADLINE, Finish.CANCELLED, Finish.ERROR)
            self._suggestions.remember(uri, (each for each in decode.completions if each.text or is_whole))

    def _stop_decode(self, uri: str) -> None:
        if live := self._live.pop(uri, None):
            live.task.cancel()

    def _end_turn(self, uri: str) -> None:
        if turn := self._turns.pop(uri, None):
            turn.is_over = True
            turn.task.cancel()

    def _rested_behind(self, behind: Behind, settings: Settings) -> None:
        """Typing into a suggestion neither starts what goes on behind it again nor stops it."""
        if self._behind.get(behind.origin.query.document.uri) is behind:
            self._spawn(self._go_on_behind(behind, settings))

    async def _go_on_behind(self, behind: Behind, settings: Settings) -> None:
        """Has written what follows a suggestion, in case that it is accepted, unless something is; at a line's end over it."""
        uri = behind.origin.query.document.uri
        if uri in self._live:
            return
        accepted = behind.accepted
        prompt = cut(accepted.document.text, accepted.offset, await self._backend.max_chars())
        if self._suggestions.recall(uri, prompt, invoked=False) is not None:
            return
        place = place_at(accepted)
        mode = mode_at(place, accepted, settings)
        if mode is not Mode.NONE:
            end = partial(block_end, place=place) if mode is Mode.BLOCK else next_line_end
            ids = (self._suggestions.new_id(),)
            task = Task(origin=behind.origin, prompt=prompt, ids=ids, end=end, ahead_of=behind.text)
            self._start_decode(task, settings, asyncio.get_running_loop().time() + _BEHIND_S)

    def _rested(self, query: Query) -> None:
        if self._resting.get(query.document.uri) is query:
            self._spawn(self._foresee_enter(query))

    async def _foresee_enter(self, query: Query) -> None:
        """Where the cursor rests between two brackets, has the prompt cached that Enter will make of this one."""
        document = query.document
        if live := self._live.get(document.uri):
            await asyncio.wait((live.task,))
        if self._resting.get(document.uri) is not query:
            return
        prompt = cut(document.text, query.offset, await self._backend.max_chars())
        if prompt.is_between_brackets and (ahead := after_enter(prompt, unit_of(place_at(query)))):
            await self._backend.prefetch(document.uri, ahead)

    def _stop_behind(self, uri: str) -> None:
        self._behind.pop(uri, None)
        live = self._live.get(uri)
        if live and live.what.ahead_of:
            self._stop_decode(uri)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs something that nobody waits for; its failure is a log line."""

        def ended(task: asyncio.Task[None]) -> None:
            self._background.discard(task)
            if not task.cancelled() and (error := task.exception()):
                _log.warning("in the background: %r", error)

        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(ended)
