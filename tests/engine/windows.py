"""An engine that several windows ask, as it is on a GPU but for the recording, and what each must be answered."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from engine import local, runtime
from engine.api import Chunk, EngineError, EngineKind, EngineOptions, Request, Stop
from engine.jobs import Job
from engine.local import LocalEngine
from engine.runtime import Placement, Runtime
from tests.engine.test_alternatives import by_choice
from tests.engine.test_graphs import Harness

SOURCE = "def total(items):\n    result = 0\n    for item in items:\n        result += item.price\n    return result\n"
CPU = Placement(torch.device("cpu"), torch.float32, "sdpa", "as on a GPU, but nothing is recorded")


def request(name: str, cursor: int = 40, **changes: object) -> Request:
    """One window's, in a document of its own."""
    values = {
        "prefix": f"{name} = 1\n{SOURCE[:cursor]}",
        "suffix": SOURCE[cursor:],
        "stop": Stop.NONE,
        "max_tokens": 12,
        **changes,
    }
    return Request(document=name, window=name, **values)


class Windows(Harness):
    """Several of them at one engine; what happens, happens before a chosen pass of the model, in the worker's thread."""

    def __init__(self, folder, monkeypatch: pytest.MonkeyPatch, budget_bytes: int = 1 << 30) -> None:
        super().__init__(folder, "graphs", budget_bytes)
        self.shapes: list[tuple[int, int]] = []  # of each pass: sequences, rows of each
        self.answers: dict[Job, list[Chunk | EngineError]] = {}
        self._planned: dict[int, list[Callable[[], object]]] = {}
        self._ended = threading.Condition()
        monkeypatch.setattr(local, "REST_S", 1e6)  # no background work: every row belongs to a request
        monkeypatch.setattr(runtime, "load", lambda options, progress: Runtime(self.model, self.decoder, "test", CPU))
        monkeypatch.setattr(runtime, "warm_up", lambda loaded: None)
        self.engine = LocalEngine(EngineOptions(kind=EngineKind.IN_PROCESS, model=str(folder)))

    def _count(self, module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        super()._count(module, inputs)
        self.shapes.append((inputs[0].shape[0], inputs[0].shape[1]))
        for happen in self._planned.pop(self.n_passes, ()):
            happen()

    def before(self, n_passes: int, happen: Callable[[], object]) -> None:
        """Plans what happens before the pass of that number, counted from now on at 1."""
        self._planned.setdefault(self.n_passes + n_passes, []).append(happen)

    def ask(self, asked: Request) -> Job:
        job = Job(asked, lambda result: self._take(job, result))
        self.answers[job] = []
        self.engine._queue.put(job)
        return job

    def wait(self) -> None:
        """Until all that were asked are answered."""
        with self._ended:
            assert self._ended.wait_for(lambda: all(map(has_ended, self.answers.values())), 60)

    def answer(self, *asked: Request) -> dict[str, list[Chunk | EngineError]]:
        """Puts them all before the first one's first pass; the answers by document."""
        for each in asked[1:]:
            self.before(1, lambda each=each: self.ask(each))
        self.ask(asked[0])
        self.wait()
        assert not self._planned
        return {job.request.document: answer for job, answer in self.answers.items()}

    def _take(self, job: Job, result: Chunk | EngineError) -> None:
        with self._ended:
            self.answers[job].append(result)
            self._ended.notify()

    def close(self) -> None:
        self.engine._queue.close()
        self.engine._worker.join(10)


def has_ended(answer: list[Chunk | EngineError]) -> bool:
    return bool(answer) and (isinstance(answer[-1], EngineError) or answer[-1].counters is not None)


def texts_of(answer: list[Chunk]) -> dict[int, str]:
    return {choice: text for choice, (text, _) in by_choice(answer).items()}


def check_answers(windows: Windows, alone: Harness, spared: tuple[Job, ...] = ()) -> None:
    """Each answer but the spared ones is what it is alone, as is what its document then has cached."""
    jobs = [job for job in windows.answers if job not in spared]
    for job in jobs:
        got, wanted = windows.answers[job], list(alone.decoder.complete(Job(job.request)))
        assert texts_of(got) == texts_of(wanted)
        for choice, (_, logprobs) in by_choice(got).items():
            assert logprobs == pytest.approx(by_choice(wanted)[choice][1], abs=1e-4)
        for name in ("finish", "prompt", "reused", "prefilled", "order", "window"):
            assert getattr(got[-1].counters, name) == getattr(wanted[-1].counters, name)
    for document in {job.request.document for job in jobs}:
        kept, wanted_kept = (each.decoder.pool.document(document) for each in (windows, alone))
        assert kept.written == wanted_kept.written
        assert [prompt.ids for prompt in kept.prompts] == [prompt.ids for prompt in wanted_kept.prompts]
        for prompt, wanted_prompt in zip(kept.prompts, wanted_kept.prompts, strict=True):
            assert torch.allclose(prompt.kv.rows(0), wanted_prompt.kv.rows(0), atol=1e-4)
    assert not windows.decoder.pool._in_use


def check(windows: Windows, alone: Harness, spared: tuple[Job, ...] = ()) -> None:
    """The answers are right, and every row is counted, the spared ones' too."""
    check_answers(windows, alone, spared)
    counters = [answer[-1].counters for answer in windows.answers.values()]
    assert windows.n_rows == sum(each.prefilled + each.decoded + each.wasted for each in counters)
