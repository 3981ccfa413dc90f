"""The engine inside this process: one worker thread that alone touches model and caches."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from engine.api import (
    Chunk,
    Counters,
    EngineClosed,
    EngineError,
    EngineOptions,
    Finish,
    Order,
    OutOfMemory,
    Request,
    State,
    Status,
)
from engine.config import GPTBigCodeConfig
from engine.fim import max_chars
from engine.jobs import Forget, Job, JobQueue
from engine.model_files import model_folder, read_gate

if TYPE_CHECKING:
    from engine.runtime import Runtime

log = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 10.0  # for the layer that runs; a device that hangs must not keep the process, and its lock, alive
MAX_CRASHES = 3  # in a row, after which only another process may help
ENDED = "ended"  # in place of a generator's next value
REST_S = 0.2  # without a request, after which the cursor counts as resting and background work may start


class LocalEngine:
    """Implements `engine.api.Engine` with a model of its own; loading starts at once, in the worker thread."""

    def __init__(self, options: EngineOptions) -> None:
        self._options = options
        self._queue = JobQueue()
        self._status = Status(state=State.LOADING, model=options.model, progress=0.0)
        self._n_crashes = 0  # in a row
        self.runtime: Runtime | None = None  # for tests and benches, which hook the model
        self._worker = threading.Thread(target=self._work, name="midfill-engine", daemon=True)
        self._worker.start()

    async def complete(
        self, request: Request, on_stopped: Callable[[Counters], None] | None = None
    ) -> AsyncGenerator[Chunk, None]:
        """Streams the answer; see `Engine.complete`."""
        if self._queue.is_closed:
            raise EngineClosed(self._status.detail or "the engine is closed")
        loop = asyncio.get_running_loop()
        results: asyncio.Queue[Chunk | EngineError] = asyncio.Queue()
        is_read = True

        def take(result: Chunk | EngineError) -> None:
            if is_read:
                results.put_nowait(result)
            elif on_stopped and isinstance(result, Chunk) and result.counters:
                on_stopped(result.counters)

        job = Job(request, emit=lambda result: _hand_over(loop, take, result))
        self._queue.put(job)
        timer = None
        if request.deadline_ms is not None:
            timer = loop.call_later(request.deadline_ms / 1000, self._queue.withdraw, job, Finish.DEADLINE)
        try:
            while True:
                result = await results.get()
                if isinstance(result, EngineError):
                    raise result
                yield result
                if result.counters is not None:
                    return
        finally:
            is_read = False
            while not results.empty():
                take(results.get_nowait())
            job.cancel()
            self._queue.withdraw(job, Finish.CANCELLED)
            if timer is not None:
                timer.cancel()

    async def prefetch(self, request: Request) -> None:
        """Queues the request's prompt as background work."""
        self._queue.put(Job(request))

    async def forget(self, document: str) -> None:
        """Drops the document's caches before the next request is looked at."""
        self._queue.forget(document)

    async def status(self) -> Status:
        """The worker's last word."""
        if self._status.state is State.READY and self._queue.is_busy:
            return replace(self._status, state=State.BUSY)
        return self._status

    async def aclose(self) -> None:
        """Ends the worker at its next layer and waits for it."""
        self._queue.close()
        await asyncio.to_thread(self._worker.join, CLOSE_TIMEOUT_S)
        self._status = replace(self._status, state=State.ENGINE_DOWN, detail="closed")

    def _work(self) -> None:
        """The worker thread: loads, then serves until closed. The one place in the engine that catches everything."""
        reason = "its worker ended"
        try:
            self._serve(self._load())
        except Exception as error:
            if not self._queue.is_closed:
                log.exception("the engine ends")
            reason = f"out of memory: {error}" if _is_out_of_memory(error) else str(error)
        finally:
            if not self._queue.is_closed:
                self._status = replace(self._status, state=State.ENGINE_DOWN, detail=reason)
                self._queue.fail(EngineClosed(reason))

    def _serve(self, runtime: Runtime) -> None:
        """Takes every answer under way to its next pass, in turn, and between two rounds starts what may join them."""
        answers: dict[Job, Iterator[None]] = {}
        while (task := self._queue.get(answers, runtime.decoder.n_slots)) is not None or answers:
            if isinstance(task, Forget):
                runtime.decoder.forget(task.document)
            elif task is not None:
                answers[task] = self._do(runtime, task)
            answers = {job: answer for job, answer in answers.items() if next(answer, ENDED) is None}

    def _do(self, runtime: Runtime, job: Job) -> Iterator[None]:
        """One piece of work, up to a pass at a time; its failure is its own, unless it is one of many."""
        try:
            yield from self._run(runtime, job)
            self._n_crashes = 0
        except Exception as error:
            log.exception("a request failed")
            if job.emit is not None:
                job.emit(error if isinstance(error, EngineError) else EngineError(f"the engine failed: {error!r}"))
            self._n_crashes += not isinstance(error, EngineError)
            if self._n_crashes >= MAX_CRASHES:
                raise EngineClosed(f"{self._n_crashes} requests in a row failed, the last with {error!r}") from error

    def _load(self) -> Runtime:
        folder = model_folder(self._options.model)
        n_positions = GPTBigCodeConfig.from_pretrained(folder).n_positions
        gate = read_gate(folder)
        self._status = replace(self._status, n_positions=n_positions, max_chars=max_chars(n_positions), gate=gate)
        from engine.runtime import load, warm_up  # here, for it imports torch: a second in which the loop must go on

        def progress(share: float) -> None:
            if self._queue.is_closed:
                raise EngineClosed("closed while loading")
            self._status = replace(self._status, progress=share)

        runtime = self.runtime = load(self._options, progress)
        placement = runtime.placement
        self._status = Status(
            state=State.WARMING,
            model=runtime.name,
            device=str(placement.device),
            dtype=placement.dtype_name,
            attention=placement.attention,
            n_positions=n_positions,
            max_chars=max_chars(n_positions),
            detail=placement.reason,
            gate=gate,
        )
        warm_up(runtime)
        self._status = replace(self._status, state=State.READY)
        return runtime

    def _run(self, runtime: Runtime, job: Job) -> Iterator[None]:
        """Answers the job; where memory runs out, without any idle cache and, if no text went out yet, once more.

        Raises: OutOfMemory where that did not help.
        """
        for is_last in (False, True):
            try:
                yield from self._answer(runtime, job)
                return
            except Exception as error:
                if not _is_out_of_memory(error):
                    raise
                reason = f"out of memory, also without caches: take a smaller model or set a smaller budget ({error})"
            # Past the except: the error's frames would keep alive what it failed to have room for.
            log.warning("out of memory: every cache that is not in use is dropped")
            runtime.decoder.pool.clear()
            if is_last or job.has_text:
                self._status = replace(self._status, detail=reason)
                raise OutOfMemory(reason)

    def _answer(self, runtime: Runtime, job: Job) -> Iterator[None]:
        if job.emit is None:
            runtime.decoder.prefetch(job)
            return
        for chunk in runtime.decoder.answer(job):
            if chunk is None:
                yield
                continue
            if chunk.counters is not None:
                self._status = replace(self._status, detail=runtime.placement.reason, last=chunk.counters)
                if not job.is_forgotten:
                    self._queue.put(Job(replace(job.request, order=Order.AUTO), ready_s=time.monotonic() + REST_S))
                log.info("answered %s", " ".join(f"{name}={value}" for name, value in asdict(chunk.counters).items()))
            job.has_text = True
            job.emit(chunk)


def _is_out_of_memory(error: Exception) -> bool:
    """Whether an allocation failed, by name and text: torch is not imported yet where this may be asked, and its CPU
    allocator raises a bare RuntimeError."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))
    )


def _hand_over(
    loop: asyncio.AbstractEventLoop, take: Callable[[Chunk | EngineError], None], result: Chunk | EngineError
) -> None:
    """Passes a result from the worker to the reader's loop, which may be gone by now."""
    try:
        loop.call_soon_threadsafe(take, result)
    except RuntimeError:
        log.debug("the reader's loop is closed; its result is dropped")
