"""The engine's queue: one worker, fair between editor windows, background work only while nobody waits.

Windows take turns: the one that was served longest ago comes next, with its newest request. Of each document only the
newest request counts. Where the worker has room for several, a request joins those that run; background work runs alone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from engine.api import Chunk, Counters, EngineError, Finish, Request


class Interrupted(Exception):  # a stop asked for from outside, not an error: the decoder turns it into a finish
    """Unwinds a forward pass whose answer nobody waits for any more."""

    def __init__(self, finish: Finish) -> None:
        self.finish = finish


@dataclass(slots=True, eq=False)
class Job:
    """One request's life in the engine; `cancel` may be called from any thread.

    `emit` takes the chunks of the answer, or the error that ended it; None marks a prefetch, which answers nothing.
    It may have to wait until `ready_s`.
    """

    request: Request
    emit: Callable[[Chunk | EngineError], None] | None = None
    ready_s: float = 0.0
    received_s: float = field(default_factory=time.monotonic)
    cancelled: bool = False
    has_text: bool = False  # some of the answer has gone out
    is_forgotten: bool = False  # its document is closed: nothing is worth keeping for it

    @property
    def is_background(self) -> bool:
        """Whether nobody waits for it."""
        return self.emit is None or self.request.speculative

    def cancel(self) -> None:
        """Stops the job before its next layer."""
        self.cancelled = True

    def elapsed_ms(self) -> float:
        """Milliseconds since the engine received the request."""
        return (time.monotonic() - self.received_s) * 1000

    def left_ms(self) -> float | None:
        """Milliseconds until the deadline; None without one."""
        return None if self.request.deadline_ms is None else self.request.deadline_ms - self.elapsed_ms()

    def check(self) -> None:
        """Raises Interrupted where the job is cancelled or past its deadline."""
        if self.cancelled:
            raise Interrupted(Finish.CANCELLED)
        left_ms = self.left_ms()
        if left_ms is not None and left_ms < 0:
            raise Interrupted(Finish.DEADLINE)

    def end_unstarted(self, finish: Finish) -> None:
        """Answers a job that never ran."""
        if self.emit is not None:
            waited_ms = self.elapsed_ms()
            self.emit(Chunk(text="", counters=Counters(queue_ms=waited_ms, total_ms=waited_ms, finish=finish)))


@dataclass(frozen=True, slots=True)
class Forget:
    """Drop every cache of a document; done by the worker, which alone touches caches."""

    document: str


class JobQueue:
    """What waits for the worker, and what it runs. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[Job | Forget] = []  # the oldest first
        self._running: list[Job] = []
        self._turns: dict[str, int] = {}  # by window: when it was served last, counted in jobs
        self._n_served = 0
        self._closed = False

    def put(self, job: Job) -> None:
        """Adds a job. It ends an older one of its kind for its document, and stops a running background job.

        A background job of another document that is stopped waits again; what it did so far stays cached.
        """
        with self._changed:
            unstarted = [job] if self._closed else self._end([each for each in self._jobs() if _is_superseded(each, job)])
            if not self._closed:
                for running in self._running:
                    if running.is_background and not running.cancelled and not job.is_background:
                        running.cancel()
                        if running.request.document != job.request.document:
                            self._waiting.append(Job(running.request, ready_s=running.ready_s))
                self._waiting.append(job)
                self._changed.notify()
        for each in unstarted:
            each.end_unstarted(Finish.CANCELLED)

    def withdraw(self, job: Job, finish: Finish) -> None:
        """Answers a job that still waits; one that runs is the worker's to end."""
        with self._changed:
            if job not in self._waiting:
                return
            self._waiting.remove(job)
        job.end_unstarted(finish)

    def forget(self, document: str) -> None:
        """Ends the document's jobs and has its caches dropped; nothing that comes of them may make new ones."""
        with self._changed:
            ended = [job for job in self._jobs() if job.request.document == document]
            for job in ended:
                job.is_forgotten = True
            unstarted = self._end(ended)
            self._waiting.append(Forget(document))
            self._changed.notify()
        for job in unstarted:
            job.end_unstarted(Finish.CANCELLED)

    def get(self, running: Collection[Job] = (), n_slots: int = 1) -> Job | Forget | None:
        """The next thing to do beside what is `running` still: forgetting first, then requests, then background work.

        Waits while nothing runs. None once closed, or where nothing may join: only a request of another document may, if there
        is a slot for each of its alternatives.
        """
        with self._changed:
            self._running = list(running)
            n_free = n_slots - sum(job.request.n for job in running)
            while not self._closed and (n_free > 0 or not running):
                task = self._next()
                if running and (task is None or (isinstance(task, Job) and task.request.n > n_free)):
                    return None
                wait_s = task.ready_s - time.monotonic() if isinstance(task, Job) else 0.0
                if task is not None and wait_s <= 0:
                    self._waiting.remove(task)
                    if isinstance(task, Job):
                        self._running.append(task)
                        self._note_turn(task)
                    return task
                self._changed.wait(wait_s if task is not None else None)
            return None

    def close(self) -> None:
        """Ends the worker before its next layer; jobs that wait are answered as cancelled."""
        with self._changed:
            self._closed = True
            unstarted = self._end(self._jobs())
            self._changed.notify()
        for job in unstarted:
            job.end_unstarted(Finish.CANCELLED)

    def fail(self, error: EngineError) -> None:
        """Closes the queue of a worker that has died: every job, those that it ran included, ends with the error."""
        with self._changed:
            self._closed = True
            jobs, self._waiting, self._running = self._jobs(), [], []
        for job in jobs:
            if job.emit is not None:
                job.emit(error)

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @property
    def is_busy(self) -> bool:
        """Whether somebody waits for an answer."""
        with self._changed:
            return any(not job.is_background for job in self._jobs())

    def _end(self, ended: list[Job]) -> list[Job]:
        """Cancels jobs. One that runs is the worker's to end; gives the others, which the caller answers outside the lock."""
        for job in ended:
            job.cancel()
        self._waiting = [task for task in self._waiting if task not in ended]
        return [job for job in ended if job not in self._running]

    def _jobs(self) -> list[Job]:
        return [*(task for task in self._waiting if isinstance(task, Job)), *self._running]

    def _next(self) -> Job | Forget | None:
        """What is most urgent, the window served longest ago first; of what is equally urgent, the newest."""
        now_s = time.monotonic()
        may_be = [task for task in reversed(self._waiting) if self._may_join(task)]

        def urgency(task: Job | Forget) -> tuple[int, float, int]:
            if isinstance(task, Forget):
                return 0, 0.0, 0
            return 1 + task.is_background, max(task.ready_s, now_s), self._turns.get(task.request.window, 0)

        return min(may_be, key=urgency, default=None)

    def _may_join(self, task: Job | Forget) -> bool:
        """Whether it may be done beside what runs: nothing of the same documents may, nor what nobody waits for."""
        if isinstance(task, Forget):
            return all(job.request.document != task.document for job in self._running)
        busy = any(job.request.document == task.request.document for job in self._running)
        return not self._running or not (busy or task.is_background)

    def _note_turn(self, job: Job) -> None:
        """Puts the job's window last in the row; windows without anything that waits are not kept in it."""
        self._n_served += 1
        in_row = {each.request.window for each in self._jobs()}
        self._turns = {window: turn for window, turn in self._turns.items() if window in in_row}
        self._turns[job.request.window] = self._n_served


def _is_superseded(older: Job, newer: Job) -> bool:
    return older.request.document == newer.request.document and older.is_background == newer.is_background
