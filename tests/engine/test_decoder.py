"""One completion: the counters tell the truth, a warm cache answers as a cold one, a stop is heard between layers."""

from __future__ import annotations

import random

import pytest
import torch

from engine.api import Chunk, Counters, Finish, Order, Request, Stop
from engine.cache_pool import CachePool
from engine.decoder import Decoder
from engine.jobs import Job
from engine.recall import EDGES, RecallWeights
from engine.speculate import PromptLookup
from engine.tokenizer import Tokenizer
from tests.engine.conftest import load

PREFIX = "def total(items):\n    result = 0\n    for item in items:\n        result += "
SUFFIX = "\n    return result\n\n\nprint(total([1, 2, 3]))\n"
STRONG = RecallWeights(tuple(float(edge) / 2 for edge in EDGES), -0.2, 0.1, -0.1, 0.1, 0.0, -5.0, 0.5)


class Harness:
    """A decoder whose model counts the rows that pass through its first layer, of every sequence."""

    def __init__(self, folder, budget_bytes: int = 1 << 30, recall: RecallWeights | None = None) -> None:
        self.model = load(folder)
        self.n_rows = 0
        self.model.transformer.h[0].register_forward_pre_hook(self._count)
        self.tokenizer = Tokenizer.from_pretrained(folder)
        pool = CachePool(self.model.transformer.new_cache, budget_bytes)
        self.decoder = Decoder(self.model, self.tokenizer, pool, recall=recall)

    def _count(self, module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        self.n_rows += inputs[0].shape[0] * inputs[0].shape[1]

    def complete(self, prefix: str = PREFIX, suffix: str = SUFFIX, **options: object) -> tuple[str, Counters]:
        """The text of the first alternative, and the counters."""
        chunks = self.run(Job(Request(**{"document": "d", "prefix": prefix, "suffix": suffix, "max_tokens": 12, **options})))
        return "".join(chunk.text for chunk in chunks if chunk.choice == 0), chunks[-1].counters

    def run(self, job: Job) -> list[Chunk]:
        return list(self.decoder.complete(job))


@pytest.fixture(params=[None, STRONG], ids=["alone", "recall"])
def harness(checkpoint, request) -> Harness:
    return Harness(checkpoint, recall=request.param)


def test_every_row_the_model_saw_is_counted_once(harness) -> None:
    _, counters = harness.complete(stop=Stop.NONE, n=3)
    assert counters.prompt == counters.reused + counters.prefilled
    assert harness.n_rows == counters.prefilled + counters.decoded + counters.wasted


def test_a_keystroke_costs_its_own_tokens(harness) -> None:
    harness.complete()
    n_before = harness.n_rows
    _, counters = harness.complete(prefix=PREFIX + "item")
    new_ids = harness.tokenizer.encode(PREFIX + "item")
    assert counters.reused >= counters.prompt - 2
    assert counters.prefilled <= 2 < len(new_ids)
    assert harness.n_rows - n_before == counters.prefilled + counters.decoded + counters.wasted


@pytest.mark.parametrize("order", [Order.SPM, Order.PSM])
@pytest.mark.parametrize("budget_bytes", [1 << 30, 1 << 19])  # the second is two blocks: one document evicts the other
def test_a_warm_cache_answers_as_a_cold_one(checkpoint, order, budget_bytes) -> None:
    warm, source, rng = Harness(checkpoint, budget_bytes), PREFIX + "item" + SUFFIX, random.Random(0)
    for n in range(40):
        cursor = rng.randrange(len(source))
        prefix, suffix = source[:cursor], source[cursor:]
        document = f"document {n % 3}"
        got, counters = warm.complete(prefix, suffix, document=document, order=order)
        wanted, cold = Harness(checkpoint, budget_bytes).complete(prefix, suffix, order=order)
        assert (got, counters.finish, counters.prompt) == (wanted, cold.finish, cold.prompt)
        source = prefix + rng.choice(["x", "\n", "items", ""]) + suffix[rng.randrange(3) :]


def test_auto_takes_the_order_with_fewer_uncached_tokens(harness) -> None:
    harness.complete(order=Order.PSM)
    _, same_place = harness.complete(order=Order.AUTO)
    assert (same_place.order, same_place.prefilled) == (Order.PSM, 0)  # what was decoded behind it is cut off
    harness.decoder.forget("d")
    _, fresh = harness.complete(order=Order.AUTO)
    assert fresh.order is Order.SPM


def test_after_a_jump_typing_goes_on_where_the_middle_began(harness) -> None:
    source = [f"value_{n} = function_{n}({n}, {n + 1})\n" for n in range(24)]
    harness.complete("".join(source[:20]), "".join(source[20:]), order=Order.PSM)
    before, after = "".join(source[:10]), "\n" + "".join(source[10:])
    _, jump = harness.complete(before + "x", after)
    n_suffix = len(harness.tokenizer.encode(after))
    assert jump.order is Order.PSM
    assert jump.prefilled <= n_suffix + 10  # not the prefix, which is as it was
    for typed in ("xy", "xyz", "xyz =", "xyz = f", "xy"):
        _, key = harness.complete(before + typed, after)
        assert key.order is Order.PSM
        assert key.prefilled <= 3


@pytest.mark.parametrize("n_layers", [1, 2, 3, 4, 7])
def test_a_cancelled_job_stops_before_its_next_layer_and_counts_what_it_wasted(harness, n_layers) -> None:
    job, n_seen = Job(Request(document="d", prefix=PREFIX, suffix=SUFFIX, stop=Stop.NONE)), 0

    def cancel_inside_layer(*_: object) -> None:
        nonlocal n_seen
        n_seen += 1
        if n_seen == n_layers:
            job.cancel()

    for block in harness.model.transformer.h:
        block.register_forward_hook(cancel_inside_layer)
    counters = harness.run(job)[-1].counters
    assert n_seen == n_layers
    assert counters.finish is Finish.CANCELLED
    assert harness.n_rows == counters.prefilled + counters.decoded + counters.wasted


def test_a_job_cancelled_before_it_starts_costs_nothing(harness) -> None:
    job = Job(Request(document="d", prefix=PREFIX, suffix=SUFFIX))
    job.cancel()
    assert harness.run(job)[-1].counters.finish is Finish.CANCELLED
    assert harness.n_rows == 0


def test_a_deadline_that_has_passed_ends_the_answer(harness) -> None:
    text, counters = harness.complete(deadline_ms=0.0)
    assert (text, counters.finish, harness.n_rows) == ("", Finish.DEADLINE, 0)


def test_a_prefetched_prompt_costs_nothing_and_is_reported(harness) -> None:
    harness.decoder.prefetch(Job(Request(document="d", prefix=PREFIX, suffix=SUFFIX, max_tokens=12)))
    n_prefetched = harness.n_rows
    _, counters = harness.complete()
    assert counters.background == n_prefetched
    assert counters.prefilled == 0
    _, again = harness.complete()
    assert again.background == 0


def test_greedy_alternatives_differ_and_share_the_prompt(harness) -> None:
    chunks = harness.run(Job(Request(document="d", prefix=PREFIX, suffix=SUFFIX, max_tokens=4, n=3, stop=Stop.NONE)))
    texts = ["".join(chunk.text for chunk in chunks if chunk.choice == choice) for choice in range(3)]
    assert len(set(texts)) == 3
    assert chunks[-1].counters.prefilled == chunks[-1].counters.prompt


def test_as_many_log_probabilities_come_as_tokens_were_sampled(harness) -> None:
    chunks = harness.run(Job(Request(document="d", prefix=PREFIX, suffix=SUFFIX, max_tokens=6, stop=Stop.NONE)))
    assert chunks[-1].counters.finish is Finish.MAX_TOKENS
    assert sum(len(chunk.logprobs) for chunk in chunks) == 6


def test_text_beyond_the_models_positions_is_cut_not_refused(harness) -> None:
    _, counters = harness.complete(prefix="x = 1\n" * 2000, suffix="\ny = 2" * 2000)
    assert counters.prompt <= harness.model.config.n_positions - 12


@pytest.mark.parametrize("prefix", ["", "\x00", "a\ud800b", "\r\n\x0c\u2028", "<fim_prefix><|endoftext|>", "é" * 50, "🙂"])
def test_any_text_is_answered(harness, prefix) -> None:
    _, counters = harness.complete(prefix=prefix, suffix="")
    assert counters.finish is not Finish.ERROR


@pytest.mark.parametrize("stop", list(Stop))
def test_speculative_decoding_writes_what_plain_decoding_writes(harness, stop, monkeypatch) -> None:
    source = "x = 1\ny = 2\n" * 20
    speculative = [harness.complete(source[:n], "\n", stop=stop, document=f"{n}", max_tokens=40) for n in range(0, 200, 7)]
    assert sum(counters.drafted for _, counters in speculative) > 0
    assert sum(counters.accepted for _, counters in speculative) > 0
    monkeypatch.setattr(PromptLookup, "draft", lambda self, n_most: ())
    plain = [harness.complete(source[:n], "\n", stop=stop, document=f"p{n}", max_tokens=40) for n in range(0, 200, 7)]
    assert [text for text, _ in speculative] == [text for text, _ in plain]
    assert [counters.finish for _, counters in speculative] == [counters.finish for _, counters in plain]
    assert sum(counters.drafted for _, counters in plain) == 0
