"""Requests of several windows in one pass per token: each is answered as if it were alone, whoever comes, goes or fails."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from engine.api import Chunk, Counters, EngineError, Finish, Request, Stop
from engine.graphs import MAX_SEQUENCES
from engine.jobs import Job
from tests.engine.conftest import load
from tests.engine.test_graphs import Harness
from tests.engine.windows import SOURCE, Windows, check, check_answers, has_ended, request, texts_of


@pytest.fixture(params=["multi-query", "multi-head"])
def folder(request, checkpoint, multi_head_checkpoint):
    return checkpoint if request.param == "multi-query" else multi_head_checkpoint


@pytest.fixture
def windows(folder, monkeypatch) -> Iterator[Windows]:
    opened = Windows(folder, monkeypatch)
    yield opened
    opened.close()


@pytest.fixture
def alone(folder) -> Harness:
    """The same engine for one request at a time."""
    return Harness(folder, "graphs")


@pytest.mark.parametrize("n_windows", [2, 3, 5])
def test_each_is_answered_as_if_it_were_alone_in_fewer_passes(windows, alone, n_windows) -> None:
    windows.answer(*(request(f"w{n}", 20 + 9 * n, max_tokens=8 + 3 * n) for n in range(n_windows)))
    check(windows, alone)
    assert windows.n_passes < 0.8 * alone.n_passes
    assert max(n_sequences for n_sequences, _ in windows.shapes) == (2 if n_windows == 2 else 4)


@pytest.mark.parametrize("moments", [(2, 3), (5, 5), (4, 9), (7, 12)])
def test_a_request_joins_between_two_passes(windows, alone, moments) -> None:
    for n, moment in enumerate(moments):
        windows.before(moment, lambda n=n: windows.ask(request(f"late{n}", 30 + 20 * n)))
    windows.answer(request("first", max_tokens=20))
    check(windows, alone)
    assert 4 in {n_sequences for n_sequences, _ in windows.shapes}


def test_between_the_chunks_of_a_long_prompt_the_others_get_their_passes(windows, alone) -> None:
    windows.before(4, lambda: windows.ask(request("long", prefix="".join(f"x{n} = {n}\n" for n in range(90)))))
    windows.answer(request("short", max_tokens=20))
    check(windows, alone)
    chunks = [idx for idx, (_, n_rows) in enumerate(windows.shapes) if n_rows > 16]
    assert len(chunks) == 3  # one of the short prompt, two of the long one
    between = windows.shapes[chunks[1] + 1 : chunks[2]]
    assert between
    assert all(n_sequences == 1 for n_sequences, _ in between)


def test_who_is_left_alone_goes_on_with_drafts_and_the_next_pass_launched_ahead(windows, alone) -> None:
    long = request("long", max_tokens=40)
    windows.answer(long)  # which is drafted from, the second time
    answers = windows.answer(long, request("short", max_tokens=3))
    check(windows, alone)
    last = max(idx for idx, (n_sequences, _) in enumerate(windows.shapes) if n_sequences > 1)
    assert any(n_rows > 1 for _, n_rows in windows.shapes[last + 1 :])
    assert answers["long"][-1].counters.accepted > 0


def test_more_than_there_are_slots_wait_for_their_window_s_turn(windows, alone) -> None:
    names = [f"w{n}" for n in range(MAX_SEQUENCES + 2)]
    ended: list[str] = []
    take = windows._take

    def note(job: Job, result: Chunk | EngineError) -> None:
        if has_ended([result]):
            ended.append(job.request.document)
        take(job, result)

    windows._take = note
    windows.answer(*(request(name, max_tokens=4 if name == "w0" else 16) for name in names))
    check(windows, alone)
    assert ended[0] == "w0"
    assert len(ended) == len(names)
    assert max(n_sequences for n_sequences, _ in windows.shapes) == MAX_SEQUENCES


@pytest.mark.parametrize("n_alternatives", [(2, 1), (2, 2), (3, 1), (3, 3), (1, 5), (6, 1)])
def test_alternatives_of_one_and_another_s_request_share_the_slots(windows, alone, n_alternatives) -> None:
    windows.answer(*(request(f"w{n}", 20 + 9 * n, n=each) for n, each in enumerate(n_alternatives)))
    check(windows, alone)
    fits = sum(n_alternatives) <= MAX_SEQUENCES
    assert windows.n_passes < alone.n_passes or not fits


@pytest.mark.parametrize("n_passes", [3, 4, 6, 9])
@pytest.mark.parametrize("finish", [Finish.CANCELLED, Finish.DEADLINE])
def test_one_that_is_stopped_leaves_and_the_others_go_on(windows, alone, n_passes, finish) -> None:
    stopped: list[Job] = []

    def stop() -> None:
        if finish is Finish.CANCELLED:
            stopped[0].cancel()
        else:
            stopped[0].received_s -= 1e6

    windows.before(1, lambda: stopped.append(windows.ask(request("stopped", max_tokens=40, deadline_ms=1e6))))
    windows.before(n_passes, stop)
    windows.answer(request("first", max_tokens=16), request("third", 60, max_tokens=20))
    assert windows.answers[stopped[0]][-1].counters.finish is finish
    check(windows, alone, spared=(stopped[0],))
    answers_as_if_cold(windows, alone, replace(stopped[0].request, deadline_ms=None))


def answers_as_if_cold(windows: Windows, alone: Harness, asked: Request) -> Counters:
    """The counters of an answer from what is cached, which is that of an engine that never saw the document."""
    alone.decoder.forget(asked.document)
    got, wanted = (list(each.decoder.complete(Job(asked))) for each in (windows, alone))
    assert texts_of(got) == texts_of(wanted)
    return got[-1].counters


def test_what_was_written_is_cached_and_goes_on_as_if_cold(windows, alone) -> None:
    asked = [request(f"w{n}", 20 + 9 * n) for n in range(3)]
    answers = windows.answer(*asked)
    for each in asked:
        counters = answers_as_if_cold(windows, alone, each)
        assert (counters.reused, counters.prefilled) == (counters.prompt, 0)
        accepted = replace(each, prefix=each.prefix + texts_of(answers[each.document])[0])
        counters = answers_as_if_cold(windows, alone, accepted)
        assert counters.reused >= answers[each.document][-1].counters.prompt


def failing(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


@pytest.mark.parametrize("n_passes", [3, 5, 8])
def test_a_pass_that_fails_fails_one_of_its_requests_and_the_others_go_on(windows, alone, n_passes) -> None:
    windows.before(n_passes, failing(RuntimeError("device lost")))
    windows.answer(*(request(f"w{n}", 20 + 9 * n, max_tokens=16) for n in range(3)))
    (failed,) = [job for job, answer in windows.answers.items() if isinstance(answer[-1], EngineError)]
    assert "device lost" in str(windows.answers[failed][-1])
    check_answers(windows, alone, spared=(failed,))
    answers_as_if_cold(windows, alone, failed.request)


def test_of_one_that_failed_nothing_is_left_in_the_next_one_s_passes(windows, alone) -> None:
    windows.before(4, failing(RuntimeError("device lost")))
    windows.answer(request("failed"))
    windows.answers.clear()
    windows.n_rows = 0
    windows.answer(request("next"))
    check(windows, alone)
    assert {n_sequences for n_sequences, _ in windows.shapes} == {1}


def test_passes_that_go_on_failing_fail_every_request_and_then_the_engine(windows) -> None:
    for n in range(6, 16):
        windows.before(n, failing(RuntimeError("device lost")))
    for n in range(2):
        windows.before(1, lambda n=n: windows.ask(request(f"w{n}", max_tokens=16)))
    windows.ask(request("first", max_tokens=16))
    windows.engine._worker.join(10)
    assert not windows.engine._worker.is_alive()
    assert [isinstance(answer[-1], EngineError) for answer in windows.answers.values()] == [True] * 3


def test_out_of_memory_costs_what_is_idle_and_no_answer(windows, alone) -> None:
    windows.answer(request("idle"))
    windows.answers.clear()
    windows.before(3, lambda: windows.ask(request("second", 60)))
    windows.before(5, failing(MemoryError()))  # the second one's prefill
    windows.answer(request("first", max_tokens=20))
    check_answers(windows, alone)
    assert windows.decoder.pool.n_uncached("idle", (0,)) == 1


def test_a_newer_request_of_a_document_never_runs_beside_the_older_one(windows, alone) -> None:
    older = request("typed", max_tokens=60)
    newer = replace(older, prefix=older.prefix + " ")
    asked: list[Job] = []
    windows.before(1, lambda: asked.append(windows.ask(older)))
    windows.before(6, lambda: windows.ask(newer))
    windows.answer(request("first", max_tokens=30))
    assert windows.answers[asked[0]][-1].counters.finish is Finish.CANCELLED
    assert max(n_sequences for n_sequences, _ in windows.shapes) == 2
    assert windows.answers[asked[0]][-1].counters.decoded > 0
    answers_as_if_cold(windows, alone, newer)


def test_of_a_document_that_is_closed_nothing_stays(windows) -> None:
    windows.before(1, lambda: windows.ask(request("closed", max_tokens=60)))
    windows.before(6, lambda: windows.engine._queue.forget("closed"))
    windows.answer(request("first", max_tokens=30))
    assert list(windows.decoder.pool._documents) == ["first"]


def test_one_is_greedy_beside_another_at_a_temperature(windows, alone) -> None:
    hot = request("hot", max_tokens=20, temperature=3.0)
    answers = windows.answer(hot, request("greedy", max_tokens=20))
    check(windows, alone, spared=tuple(job for job in windows.answers if job.request is hot))
    assert texts_of(answers["hot"]) != texts_of(list(alone.decoder.complete(Job(replace(hot, temperature=0.0)))))


@pytest.mark.parametrize("n_prompts", [1, 2])
def test_no_more_run_than_the_budget_holds_whole_prompts(checkpoint, monkeypatch, n_prompts) -> None:
    shape = load(checkpoint).new_cache().shape
    budget_bytes = n_prompts * shape.n_positions * shape.bytes_per_token
    windows, alone = Windows(checkpoint, monkeypatch, budget_bytes), Harness(checkpoint, "graphs")
    long = "".join(f"x{n} = {n}\n" for n in range(100))
    answers = windows.answer(*(request(f"w{n}", prefix=long[: 200 * n]) for n in range(5)))
    windows.close()
    assert max(n_sequences for n_sequences, _ in windows.shapes) == n_prompts
    assert windows.decoder.pool.n_bytes <= budget_bytes
    for job in windows.answers:
        assert texts_of(answers[job.request.document]) == texts_of(list(alone.decoder.complete(Job(job.request))))


def test_at_random(checkpoint, monkeypatch) -> None:
    """Whoever comes and goes when: answers, caches and counts are right."""
    rng = random.Random(0)
    windows, alone = Windows(checkpoint, monkeypatch), Harness(checkpoint, "graphs")
    for _ in range(12):
        windows.answers.clear()
        windows.n_rows = 0
        stopped: list[Job] = []

        def ask(n: int, stopped: list[Job] = stopped) -> None:
            job = windows.ask(any_request(rng, f"w{n}"))
            if rng.random() < 0.2:
                stopped.append(job)
                windows.before(rng.randrange(1, 6), job.cancel)

        n_passes = 0
        for n in range(1, rng.randrange(3, 7)):
            n_passes += rng.randrange(4)
            windows.before(1 + n_passes, lambda n=n: ask(n))
        windows.ask(any_request(rng, "w0", max_tokens=40))
        windows.wait()
        windows._planned.clear()
        check(windows, alone, spared=tuple(stopped))
        for job in stopped:
            for each in (windows, alone):
                each.decoder.forget(job.request.document)
    windows.close()


def any_request(rng: random.Random, name: str, **changes: object) -> Request:
    values = {"n": rng.choice([1, 1, 1, 2, 3]), "max_tokens": rng.choice([1, 4, 20]), "stop": rng.choice(list(Stop)), **changes}
    return request(name, rng.randrange(5, len(SOURCE)), **values)
