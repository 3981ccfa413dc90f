"""Alternatives side by side: each is what it would be alone, and every row is counted once."""

from __future__ import annotations

import random

import pytest

from engine.api import Chunk, Finish, Request, Stop
from engine.cache_pool import CachePool
from engine.decoder import Decoder
from engine.graphs import MAX_SEQUENCES
from engine.jobs import Job
from engine.steps import EagerStepper
from engine.tokenizer import Tokenizer
from tests.engine.conftest import load
from tests.engine.test_graphs import Harness

SOURCE = "def total(items):\n    result = 0\n    for item in items:\n        result += item.price\n    return result\n"


class OneByOne(EagerStepper):
    """Plain passes that never take several sequences."""

    def n_together(self, n_alternatives: int) -> int:
        return 1


def one_by_one(folder) -> Decoder:
    model = load(folder)
    pool = CachePool(model.transformer.new_cache, 1 << 30)
    return Decoder(model, Tokenizer.from_pretrained(folder), pool, stepper=OneByOne(model))


def by_choice(chunks: list[Chunk]) -> dict[int, tuple[str, list[float]]]:
    """Text and log-probabilities of each alternative."""
    choices = {chunk.choice for chunk in chunks}
    return {
        choice: (
            "".join(chunk.text for chunk in chunks if chunk.choice == choice),
            [logprob for chunk in chunks if chunk.choice == choice for logprob in chunk.logprobs],
        )
        for choice in choices
    }


@pytest.mark.parametrize("stepper", ["eager", "graphs"])
@pytest.mark.parametrize("kind", ["multi-query", "multi-head"])
def test_each_is_what_it_would_be_alone_and_every_row_is_counted(stepper, kind, checkpoint, multi_head_checkpoint) -> None:
    folder = checkpoint if kind == "multi-query" else multi_head_checkpoint
    together, alone, rng = Harness(folder, stepper), one_by_one(folder), random.Random(0)
    for n in range(5, len(SOURCE), 13):
        stop, n_alternatives = rng.choice(list(Stop)), rng.choice([2, 3, 5])
        request = Request(
            document="d", prefix=SOURCE[:n], suffix=SOURCE[n:], stop=stop, n=n_alternatives, max_tokens=rng.choice([1, 4, 12])
        )
        n_before = together.n_rows
        got, wanted = list(together.decoder.complete(Job(request))), list(alone.complete(Job(request)))
        texts, wanted_texts = by_choice(got), by_choice(wanted)
        assert {choice: text for choice, (text, _) in texts.items()} == {each: text for each, (text, _) in wanted_texts.items()}
        for choice, (_, logprobs) in texts.items():
            assert logprobs == pytest.approx(wanted_texts[choice][1], abs=1e-4)
        counters = got[-1].counters
        assert counters.finish == wanted[-1].counters.finish
        assert counters.prompt == counters.reused + counters.prefilled
        assert together.n_rows - n_before == counters.prefilled + counters.decoded + counters.wasted


def test_side_by_side_takes_as_many_passes_as_the_longest(checkpoint) -> None:
    together = Harness(checkpoint, "eager")
    request = Request(document="d", prefix="value = 1\n", suffix="", stop=Stop.NONE, n=4, max_tokens=10)
    list(together.decoder.complete(Job(request)))
    together.n_passes = 0
    list(together.decoder.complete(Job(request)))
    assert together.n_passes <= 10 + 8  # tokens, and what the last word is written again with


def test_the_finished_leave_the_batch(checkpoint) -> None:
    together = Harness(checkpoint, "eager")
    n_rows: list[int] = []
    together.model.transformer.h[0].register_forward_pre_hook(lambda module, inputs: n_rows.append(len(inputs[0])))
    for n in range(5, len(SOURCE), 3):
        request = Request(document="d", prefix=SOURCE[:n], suffix=SOURCE[n:], n=4, max_tokens=8)
        n_rows.clear()
        list(together.decoder.complete(Job(request)))
        decoded = [each for each in n_rows if each > 1]
        if len(set(decoded)) > 1:
            assert decoded == sorted(decoded, reverse=True)
            return
    pytest.fail("no alternative ended before the others")


@pytest.mark.parametrize("stepper", ["eager", "graphs"])
def test_the_first_alternative_is_cached_and_goes_on_without_prefill(stepper, checkpoint) -> None:
    together = Harness(checkpoint, stepper)
    request = Request(document="d", prefix="value = 1\n", suffix="", stop=Stop.NONE, n=3, max_tokens=6)
    list(together.decoder.complete(Job(request)))
    (prompt,) = together.decoder.pool.document("d").prompts
    alone = one_by_one(checkpoint)
    list(alone.complete(Job(Request(document="d", prefix="value = 1\n", suffix="", stop=Stop.NONE, max_tokens=6))))
    (wanted,) = alone.pool.document("d").prompts
    assert prompt.ids == wanted.ids
    assert prompt.kv.rows(0) == pytest.approx(wanted.kv.rows(0), abs=1e-4)


@pytest.mark.parametrize("stepper", ["eager", "graphs"])
@pytest.mark.parametrize("n_passes", [1, 2, 4])
def test_a_cancel_ends_them_all_with_every_row_counted(stepper, checkpoint, n_passes) -> None:
    together = Harness(checkpoint, stepper)
    job = Job(Request(document="d", prefix="value = 1\n", suffix="", stop=Stop.NONE, n=3, max_tokens=30))
    together.model.transformer.h[1].register_forward_hook(lambda *_: job.cancel() if together.n_passes >= n_passes else None)
    counters = list(together.decoder.complete(job))[-1].counters
    assert counters.finish is Finish.CANCELLED
    assert together.n_rows == counters.prefilled + counters.decoded + counters.wasted


def test_those_that_wait_for_a_slot_never_begin_where_the_others_are_stopped(checkpoint) -> None:
    together = Harness(checkpoint, "graphs")
    job = Job(Request(document="d", prefix="value = 1\n", suffix="", stop=Stop.NONE, n=MAX_SEQUENCES + 2, max_tokens=30))
    together.model.transformer.h[1].register_forward_hook(lambda *_: job.cancel() if together.n_passes >= 6 else None)
    chunks = list(together.decoder.complete(job))
    assert chunks[-1].counters.finish is Finish.CANCELLED
    assert {chunk.choice for chunk in chunks[:-1]} == set(range(MAX_SEQUENCES))


def test_the_batch_s_memory_is_free_once_all_have_ended(checkpoint) -> None:
    together = Harness(checkpoint, "eager")
    batch, held = together.decoder._stepper._batch, []
    together.model.transformer.h[1].register_forward_hook(lambda *_: held.append(batch.kv is not None))
    job = Job(Request(document="d", prefix="value = 1\n", suffix="", stop=Stop.NONE, n=3, max_tokens=6))
    list(together.decoder.complete(job))
    assert any(held)
    assert batch.kv is None


def test_where_their_caches_have_no_room_they_go_one_by_one(checkpoint) -> None:
    model = load(checkpoint)
    budget = 200 * model.new_cache().shape.bytes_per_token
    decoder = Decoder(model, Tokenizer.from_pretrained(checkpoint), CachePool(model.transformer.new_cache, budget))
    n_rows: list[int] = []
    model.transformer.h[0].register_forward_pre_hook(lambda module, inputs: n_rows.append(len(inputs[0])))
    chunks = list(decoder.complete(Job(Request(document="d", prefix=SOURCE, suffix="", stop=Stop.NONE, n=4, max_tokens=40))))
    assert {chunk.choice for chunk in chunks} == {0, 1, 2, 3}
    assert set(n_rows) == {1}
