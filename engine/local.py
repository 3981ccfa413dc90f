"""The engine inside this process: one worker thread that alone touches model and caches."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from engine.api import Chunk, EngineClosed, EngineError, EngineOptions, Finish, Order, Request, State, Status
from engine.config import GPTBigCodeConfig
from engine.fim import max_chars
from engine.jobs import Forget, Job, JobQueue
from engine.model_files import model_folder

if TYPE_CHECKING:
    from engine.runtime import Runtime

log = logging.getLogger(__name__)

REST_S = 0.2  # without a request, after which the cursor counts as resting and background work may start


class LocalEngine:
    """Implements `engine.api.Engine` with a model of its own; loading starts at once, in the worker thread."""

    def __init__(self, options: EngineOptions) -> None:
        self._options = options
        self._queue = JobQueue()
        self._status = Status(state=State.LOADING, model=options.model, progress=0.0)
        self.runtime: Runtime | None = None  # for tests and benches, which hook the model
        self._worker = threading.Thread(target=self._work, name="midfill-engine", daemon=True)
        self._worker.start()

    async def complete(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Streams the answer; see `Engine.complete`."""
        if self._queue.is_closed:
            raise EngineClosed(self._status.detail or "the engine is closed")
        loop = asyncio.get_running_loop()
        results: asyncio.Queue[Chunk | EngineError] = asyncio.Queue()
        job = Job(request, emit=lambda result: _hand_over(loop, results, result))
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
        await asyncio.to_thread(self._worker.join)
        self._status = replace(self._status, state=State.ENGINE_DOWN, detail="closed")

    def _work(self) -> None:
        """The worker thread: loads, then serves until closed. The one place in the engine that catches everything."""
        try:
            runtime = self._load()
        except Exception as error:
            log.exception("the model cannot be loaded")
            self._status = replace(self._status, state=State.ENGINE_DOWN, detail=str(error))
            self._queue.close()
            return
        while (task := self._queue.get()) is not None:
            if isinstance(task, Forget):
                runtime.decoder.forget(task.document)
                continue
            try:
                self._run(runtime, task)
            except Exception as error:
                log.exception("a request failed")
                if task.emit is not None:
                    task.emit(error if isinstance(error, EngineError) else EngineError(f"the engine failed: {error!r}"))

    def _load(self) -> Runtime:
        n_positions = GPTBigCodeConfig.from_pretrained(model_folder(self._options.model)).n_positions
        self._status = replace(self._status, n_positions=n_positions, max_chars=max_chars(n_positions))
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
        )
        warm_up(runtime)
        self._status = replace(self._status, state=State.READY)
        return runtime

    def _run(self, runtime: Runtime, job: Job) -> None:
        if job.emit is None:
            runtime.decoder.prefetch(job)
            return
        for chunk in runtime.decoder.complete(job):
            if chunk.counters is not None:
                self._status = replace(self._status, last=chunk.counters)
                self._queue.put(Job(replace(job.request, order=Order.AUTO), ready_s=time.monotonic() + REST_S))
                log.info("answered %s", " ".join(f"{name}={value}" for name, value in asdict(chunk.counters).items()))
            job.emit(chunk)


def _hand_over(
    loop: asyncio.AbstractEventLoop, results: asyncio.Queue[Chunk | EngineError], result: Chunk | EngineError
) -> None:
    """Passes a result from the worker to the reader's loop, which may be gone by now."""
    try:
        loop.call_soon_threadsafe(results.put_nowait, result)
    except RuntimeError:
        log.debug("the reader's loop is closed; its result is dropped")
