"""The engine's queue: one worker, newest request per document, background work only while nobody waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
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

    @property
    def is_background(self) -> bool:
        """Whether nobody waits for it."""
        return self.emit is None

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
        self._waiting: list[Job | Forget] = []
        self._running: Job | None = None
        self._closed = False

    def put(self, job: Job) -> None:
        """Adds a job. It replaces an older one of its kind for its document, and stops a running background job."""
        with self._changed:
            if self._closed:
                job.end_unstarted(Finish.CANCELLED)
                return
            older = [
                j for j in self._jobs() if j.request.document == job.request.document and j.is_background == job.is_background
            ]
            for superseded in older:
                superseded.cancel()
            self._waiting = [task for task in self._waiting if task not in older or not job.is_background]
            if self._running is not None and self._running.is_background and not job.is_background:
                self._running.cancel()
            self._waiting.append(job)
            self._changed.notify()

    def expire(self, job: Job) -> None:
        """Answers a job that still waits when its deadline comes; the worker looks after one that runs."""
        with self._changed:
            if job not in self._waiting:
                return
            self._waiting.remove(job)
        job.end_unstarted(Finish.DEADLINE)

    def forget(self, document: str) -> None:
        """Cancels the document's jobs and has its caches dropped."""
        with self._changed:
            for job in self._jobs():
                if job.request.document == document:
                    job.cancel()
            self._waiting.append(Forget(document))
            self._changed.notify()

    def get(self) -> Job | Forget | None:
        """Waits for the next thing to do: forgetting first, then requests, then background work. None once closed."""
        with self._changed:
            self._running = None
            while not self._closed:
                task = min(self._waiting, key=_urgency, default=None)
                wait_s = task.ready_s - time.monotonic() if isinstance(task, Job) else 0.0
                if task is not None and wait_s <= 0:
                    self._waiting.remove(task)
                    self._running = task if isinstance(task, Job) else None
                    return task
                self._changed.wait(wait_s if task is not None else None)
            return None

    def close(self) -> None:
        """Ends the worker before its next layer; jobs that wait are answered as cancelled."""
        with self._changed:
            self._closed = True
            waiting, self._waiting = self._waiting, []
            if self._running is not None:
                self._running.cancel()
            self._changed.notify()
        for task in waiting:
            if isinstance(task, Job):
                task.end_unstarted(Finish.CANCELLED)

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @property
    def is_busy(self) -> bool:
        """Whether somebody waits for an answer."""
        with self._changed:
            return any(not job.is_background for job in self._jobs())

    def _jobs(self) -> list[Job]:
        waiting = [task for task in self._waiting if isinstance(task, Job)]
        return waiting if self._running is None else [*waiting, self._running]


def _urgency(task: Job | Forget) -> tuple[int, float]:
    if isinstance(task, Forget):
        return 0, 0.0
    return (2 if task.is_background else 1), task.ready_s
