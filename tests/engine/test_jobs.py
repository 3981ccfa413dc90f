"""The queue: newest request per document, requests before background work, nothing left unanswered."""

from __future__ import annotations

from engine.api import Chunk, EngineError, Finish, Request
from engine.jobs import Forget, Job, JobQueue


class Asker:
    """Makes jobs and remembers what they were answered."""

    def __init__(self) -> None:
        self.answers: dict[str, Finish] = {}

    def job(self, document: str) -> Job:
        def emit(result: Chunk | EngineError) -> None:
            assert isinstance(result, Chunk)
            assert result.counters is not None
            self.answers[document] = result.counters.finish

        return Job(Request(document=document, prefix="", suffix=""), emit)


def background(document: str) -> Job:
    return Job(Request(document=document, prefix="", suffix=""))


def test_requests_come_before_background_work_and_forgetting_before_both() -> None:
    queue, asker = JobQueue(), Asker()
    later, request = background("a"), asker.job("b")
    queue.put(later)
    queue.put(request)
    queue.forget("c")
    assert [queue.get(), queue.get(), queue.get()] == [Forget("c"), request, later]


def test_a_request_stops_the_background_job_that_runs() -> None:
    queue, running = JobQueue(), background("a")
    queue.put(running)
    assert queue.get() is running
    queue.put(background("b"))
    assert not running.cancelled
    queue.put(Asker().job("c"))
    assert running.cancelled


def test_a_newer_request_for_a_document_cancels_the_older_one() -> None:
    queue, asker = JobQueue(), Asker()
    older, other, newer = asker.job("a"), asker.job("b"), asker.job("a")
    for job in (older, other, newer):
        queue.put(job)
    assert (older.cancelled, other.cancelled, newer.cancelled) == (True, False, False)


def test_a_job_that_still_waits_at_its_deadline_is_answered_then() -> None:
    queue, asker = JobQueue(), Asker()
    waiting, running = asker.job("waiting"), asker.job("running")
    queue.put(running)
    assert queue.get() is running
    queue.put(waiting)
    queue.expire(waiting)
    queue.expire(running)  # the worker's to end
    assert asker.answers == {"waiting": Finish.DEADLINE}


def test_closing_answers_everything_that_waits_and_whatever_comes_later() -> None:
    queue, asker = JobQueue(), Asker()
    running = asker.job("running")
    queue.put(running)
    queue.get()
    queue.put(asker.job("waiting"))
    queue.close()
    queue.put(asker.job("late"))
    assert queue.get() is None
    assert running.cancelled
    assert asker.answers == {"waiting": Finish.CANCELLED, "late": Finish.CANCELLED}
