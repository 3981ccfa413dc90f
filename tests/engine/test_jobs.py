"""The queue: newest request per document, requests before background work, nothing left unanswered."""

from __future__ import annotations

from engine.api import Chunk, EngineError, Finish, Request
from engine.jobs import Forget, Job, JobQueue


class Asker:
    """Makes jobs and remembers what they were answered."""

    def __init__(self) -> None:
        self.answers: dict[str, Finish] = {}

    def job(self, document: str, window: str = "", *, speculative: bool = False) -> Job:
        def emit(result: Chunk | EngineError) -> None:
            assert isinstance(result, Chunk)
            assert result.counters is not None
            self.answers[document] = result.counters.finish

        return Job(Request(document=document, prefix="", suffix="", window=window, speculative=speculative), emit)


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


def test_a_speculative_request_gives_way_to_any_other_and_is_not_repeated() -> None:
    queue, asker = JobQueue(), Asker()
    running, waiting = asker.job("a", speculative=True), asker.job("b", speculative=True)
    queue.put(running)
    assert queue.get() is running
    queue.put(waiting)
    assert not queue.is_busy
    asked = asker.job("b")
    queue.put(asked)
    assert (running.cancelled, waiting.cancelled) == (True, False)
    assert queue.get() is asked


def test_a_newer_request_for_a_document_cancels_the_older_one() -> None:
    queue, asker = JobQueue(), Asker()
    older, other, newer = asker.job("a"), asker.job("b"), asker.job("a")
    for job in (older, other, newer):
        queue.put(job)
    assert (older.cancelled, other.cancelled, newer.cancelled) == (True, False, False)
    assert asker.answers == {"a": Finish.CANCELLED}  # at once: nothing that was given up is kept


def test_windows_take_turns_and_each_is_served_its_newest_request_first() -> None:
    queue, asker = JobQueue(), Asker()
    jobs = [asker.job(f"{window}{n}", window) for window in "abc" for n in range(3)]
    for job in jobs:
        queue.put(job)
    served = [queue.get().request.document for _ in jobs]
    assert [document[1] for document in served] == list("222111000")
    assert [{document[0] for document in served[n : n + 3]} for n in (0, 3, 6)] == [set("abc")] * 3


def test_a_window_that_never_stops_asking_does_not_keep_the_others_waiting() -> None:
    queue, asker = JobQueue(), Asker()
    queue.put(asker.job("quiet", "quiet"))
    served = []
    for n in range(3):
        queue.put(asker.job(f"busy{n}", "busy"))
        served.append(queue.get().request.document)
    assert "quiet" in served[:2]


def test_where_there_are_slots_requests_of_other_documents_join_those_that_run() -> None:
    queue, asker = JobQueue(), Asker()
    jobs = [asker.job(document) for document in "abc"]
    for job in (*jobs, background("d")):
        queue.put(job)
    first = queue.get(n_slots=3)
    second = queue.get([first], n_slots=3)
    assert queue.get([first, second], n_slots=2) is None
    third = queue.get([first, second], n_slots=3)
    assert {first, second, third} == set(jobs)
    queue.forget("c")
    assert queue.get([first, second, third], n_slots=4) is None  # background work waits, and nothing of "c" is in peace yet
    assert jobs[2].cancelled
    assert queue.get([jobs[0], jobs[1]], n_slots=4) == Forget("c")


def test_a_request_waits_for_a_slot_for_each_of_its_alternatives_and_nobody_overtakes_it() -> None:
    queue, asker = JobQueue(), Asker()
    running, many = asker.job("running", "a"), Job(Request(document="many", prefix="", suffix="", n=4, window="b"), print)
    queue.put(running)
    assert queue.get(n_slots=4) is running
    queue.put(many)
    assert queue.get([running], n_slots=4) is None
    queue.put(asker.job("later", "a"))
    assert queue.get([running], n_slots=4) is None
    assert queue.get(n_slots=4) is many


def test_a_request_never_joins_an_older_one_of_its_document() -> None:
    queue, asker = JobQueue(), Asker()
    older, newer, other = asker.job("a"), asker.job("a"), asker.job("b")
    queue.put(older)
    assert queue.get(n_slots=4) is older
    queue.put(newer)
    queue.put(other)
    assert older.cancelled
    assert queue.get([older], n_slots=4) is other
    assert queue.get([older, other], n_slots=4) is None
    assert queue.get([other], n_slots=4) is newer


def test_a_background_job_stopped_by_another_document_s_request_goes_on_afterwards() -> None:
    queue, asker = JobQueue(), Asker()
    stopped, request = background("a"), asker.job("b")
    queue.put(stopped)
    queue.get()
    queue.put(request)
    assert stopped.cancelled
    assert queue.get() is request
    assert queue.get().request == stopped.request


def test_a_background_job_stopped_by_its_own_document_s_request_is_not_repeated() -> None:
    queue, asker = JobQueue(), Asker()
    queue.put(background("a"))
    queue.get()
    queue.put(asker.job("a"))
    queue.get()
    queue.put(background("b"))
    assert queue.get().request.document == "b"
    queue.close()
    assert queue.get() is None


def test_a_job_that_still_waits_at_its_deadline_is_answered_then() -> None:
    queue, asker = JobQueue(), Asker()
    waiting, running = asker.job("waiting"), asker.job("running")
    queue.put(running)
    assert queue.get() is running
    queue.put(waiting)
    queue.withdraw(waiting, Finish.DEADLINE)
    queue.withdraw(running, Finish.DEADLINE)  # the worker's to end
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


def test_forgetting_a_document_ends_what_waits_for_it() -> None:
    queue, asker = JobQueue(), Asker()
    running, waiting, other = asker.job("a"), asker.job("b"), asker.job("c")
    queue.put(running)
    queue.get()
    for job in (waiting, background("b"), background("a"), other):
        queue.put(job)
    queue.forget("a")
    queue.forget("b")
    assert running.cancelled
    assert running.is_forgotten
    assert asker.answers == {"b": Finish.CANCELLED}
    assert [queue.get() for _ in range(3)] == [Forget("b"), Forget("a"), other]
    queue.close()
    assert queue.get() is None
