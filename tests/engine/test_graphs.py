"""Passes of a fixed shape: the ids of plain decoding, nothing read on the host, every row counted.

Recorded here by a recorder that records nothing; tests/bench/gpu.py runs the same under CUDA graphs.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from engine.api import Finish, Request, Stop
from engine.appending import MaskedAppending
from engine.backends import make_attention
from engine.cache_pool import CachePool
from engine.decoder import Decoder
from engine.gpu import operators
from engine.graphs import LAST_PICK, SHAPES, Pass, StaticDecoder, record_nothing
from engine.jobs import Job
from engine.kv_cache import KVCache
from engine.static_forward import OperatorForward
from engine.steps import EagerStepper, GraphStepper
from engine.tokenizer import Tokenizer
from tests.engine.conftest import load
from tests.engine.pairs import random_ids
from tests.engine.test_attention import HOST_TENSORS, SYNCHRONISING, Recorder, model

MQA_AND_MHA = pytest.mark.parametrize("multi_query", [True, False])


def static(ours, record=record_nothing) -> StaticDecoder:
    return StaticDecoder(ours, OperatorForward(ours, MaskedAppending(ours.config)), record)


def greedy(ours, ids: list[int], n_new: int) -> tuple[list[int], KVCache]:
    """What plain decoding writes, and the prompt's cache."""
    cache = ours.new_cache()
    with torch.inference_mode():
        ours(torch.tensor([ids]), kv_cache=cache)
        prompt = cache.branch(len(ids) - 1)
        written: list[int] = []
        while len(written) < n_new:
            cache.truncate(len(ids) + len(written) - 1)
            logits = ours(torch.tensor([[*ids, *written][-1:]]), kv_cache=cache).logits
            written.append(int(logits[0, -1].argmax()))
    return written, prompt


@MQA_AND_MHA
def test_passes_write_what_plain_decoding_writes(multi_query) -> None:
    ours = model(multi_query=multi_query)
    ids = random_ids((1, 30))[0].tolist()
    wanted, prompt = greedy(ours, ids, 12)
    passes = static(ours)
    passes.load([prompt])
    written = list(passes.launch([ids[-1:]]).read()[0].token_ids)
    while len(written) < 12:
        written += passes.launch([(LAST_PICK,)]).read()[0].token_ids
    assert written == wanted


@MQA_AND_MHA
@pytest.mark.parametrize("n_draft", [1, 3, 5, 15])
@pytest.mark.parametrize("n_right", [0, 1, 2, 15])
def test_a_draft_is_taken_as_far_as_it_is_right(multi_query, n_draft, n_right) -> None:
    ours = model(multi_query=multi_query)
    ids = random_ids((1, 30))[0].tolist()
    wanted, prompt = greedy(ours, ids, 20)
    draft = [*wanted[:n_right], *(98 - token_id for token_id in wanted[n_right:])][:n_draft]
    passes = static(ours)
    passes.load([prompt])
    (picks,) = passes.launch([(ids[-1], *draft)]).read()
    n_taken = min(n_right, n_draft) + 1
    assert list(picks.token_ids) == wanted[:n_taken]
    (after,) = passes.launch([(LAST_PICK,)]).read()
    assert list(after.token_ids) == wanted[n_taken : n_taken + 1]


def test_what_is_forced_is_taken_whole_and_its_logits_are_the_models() -> None:
    ours = model()
    ids = random_ids((1, 30))[0].tolist()
    _, prompt = greedy(ours, ids[:20], 1)
    passes = static(ours)
    passes.load([prompt])
    launched = passes.launch([tuple(ids[19:])], forced=True)
    with torch.inference_mode():
        wanted = ours(torch.tensor([ids])).logits[0]
    assert launched.read()[0].token_ids == tuple(wanted[19:].argmax(-1).tolist())
    assert torch.allclose(launched.logits[0], wanted[-1], atol=1e-5)
    log_softmax = wanted[-1].log_softmax(-1).max()
    assert launched.read()[0].logprobs[-1] == pytest.approx(float(log_softmax), abs=1e-4)


@MQA_AND_MHA
@pytest.mark.parametrize("lengths", [[30, 7], [5, 30, 12], [9, 9, 9, 9]])
def test_several_sequences_of_any_lengths_go_side_by_side(multi_query, lengths) -> None:
    ours = model(multi_query=multi_query)
    prompts = [random_ids((1, length), seed=idx)[0].tolist() for idx, length in enumerate(lengths)]
    wanted, caches = zip(*(greedy(ours, ids, 6) for ids in prompts), strict=True)
    passes = static(ours)
    passes.load(caches)
    written = [list(picks.token_ids) for picks in passes.launch([ids[-1:] for ids in prompts]).read()[: len(lengths)]]
    for _ in range(5):
        for got, picks in zip(written, passes.launch([(LAST_PICK,)] * len(lengths)).read(), strict=False):
            got += picks.token_ids
    assert written == list(wanted)


def test_rows_go_back_to_the_prompts_own_cache() -> None:
    ours = model()
    ids = random_ids((1, 30))[0].tolist()
    wanted, prompt = greedy(ours, ids, 9)
    passes = static(ours)
    passes.load([prompt])
    passes.launch([(ids[-1], *wanted[:7])]).read()
    passes.store(0, prompt, 8)
    with torch.inference_mode():
        logits = ours(torch.tensor([wanted[7:8]]), kv_cache=prompt).logits
    assert int(logits.argmax()) == wanted[8]
    assert prompt.length == 30 + 8


def test_at_a_temperature_tokens_are_drawn_by_their_probability() -> None:
    ours = model(n_layer=1)
    ids = random_ids((1, 5))[0].tolist()
    _, prompt = greedy(ours, ids, 1)
    with torch.inference_mode():
        probs = (ours(torch.tensor([ids])).logits[0, -1] / 2.0).softmax(-1)
    passes, n_draws = static(ours), 400
    counts = torch.zeros_like(probs)
    torch.manual_seed(0)
    for _ in range(n_draws):
        passes.load([prompt], [2.0])
        counts[passes.launch([ids[-1:]]).read()[0].token_ids[0]] += 1
    assert float((counts / n_draws - probs).abs().sum()) < 0.5  # total variation; of another distribution it is near 2
    assert int(counts.argmax()) in probs.topk(3).indices


def test_each_sequence_of_a_pass_has_its_own_temperature() -> None:
    ours = model(n_layer=1)
    ids = random_ids((1, 5))[0].tolist()
    (likeliest,), prompt = greedy(ours, ids, 1)
    passes, drawn = static(ours), []
    for _ in range(40):
        passes.load([prompt, prompt, prompt], [0.0, 50.0, 0.0])
        drawn.append([picks.token_ids[0] for picks in passes.launch([ids[-1:]] * 3).read()[:3]])
    first, hot, last = zip(*drawn, strict=True)
    assert set(first) == set(last) == {likeliest}
    assert len(set(hot)) > 10


@pytest.mark.parametrize("shape", SHAPES)
def test_a_pass_reads_nothing_on_the_host_and_keeps_its_addresses(shape) -> None:
    recorded: list[Pass] = []

    def record(run: Pass) -> Pass:
        recorded.append(run)
        return run

    passes = static(model(), record)
    passes.warm_up()
    assert len(recorded) == len(SHAPES)
    run, addresses = recorded[SHAPES.index(shape)], []
    for _ in range(2):
        launched = passes.launch([(5,) * shape[1]] * shape[0])
        addresses.append((launched.logits.data_ptr(), passes.kv.data_ptr(), passes.lengths.data_ptr()))
    assert addresses[0] == addresses[1]
    assert len(recorded) == len(SHAPES)  # nothing is recorded twice
    with torch.inference_mode(), Recorder() as recorder:
        run()
    # conversions between dtypes are copies on the device
    assert {name for name in (*SYNCHRONISING, *HOST_TENSORS) if recorder.n_calls[name]} <= {"_to_copy"}


@MQA_AND_MHA
@pytest.mark.parametrize("name", ["sdpa", "torch_flash"])
def test_every_pass_fits_the_operators_that_a_gpu_runs(name, multi_query) -> None:
    """On tensors without numbers, whose operators judge shapes and dtypes, refuse a mix of devices and cannot be read."""

    def record(run: Pass) -> Pass:
        run()
        return run

    ours = model(dtype=torch.float16, multi_query=multi_query).to("meta")
    ours.transformer.attention = make_attention(name, ours.config)
    ids = torch.zeros(1, 40, dtype=torch.long, device="meta")
    cache = ours.new_cache()
    with torch.inference_mode():
        for n_new in (40, 7, 1):
            assert ours(ids[:, :n_new], kv_cache=cache).logits.shape == (1, n_new, ours.config.vocab_size)
    passes = StaticDecoder(ours, operators(ours), record)
    passes.warm_up()
    passes.load([cache])
    passes.store(0, cache, 3)
    assert cache.length == 40 + 7 + 1 + 3


def test_recording_leaves_what_is_under_way_alone() -> None:
    def record(run: Pass) -> Pass:
        run()
        return run

    ours = model()
    ids = random_ids((1, 30))[0].tolist()
    wanted, prompt = greedy(ours, ids, 4)
    passes = static(ours, record)
    passes.load([prompt])
    written = [*passes.launch([ids[-1:]]).read()[0].token_ids, *passes.launch([(LAST_PICK, wanted[1])]).read()[0].token_ids]
    assert written == wanted[:3]


SOURCE = "x = 1\ny = 2\n" * 20 + "value = total"


class Harness:
    """A decoder over passes of a fixed shape or over plain ones, whose model counts every row of every sequence."""

    def __init__(self, folder, stepper: str, budget_bytes: int = 1 << 30) -> None:
        self.model = load(folder)
        self.n_rows = self.n_passes = 0
        self.model.transformer.h[0].register_forward_pre_hook(self._count)
        chosen = GraphStepper(self.model, static(self.model)) if stepper == "graphs" else EagerStepper(self.model)
        pool = CachePool(self.model.transformer.new_cache, budget_bytes)
        self.decoder = Decoder(self.model, Tokenizer.from_pretrained(folder), pool, stepper=chosen)

    def _count(self, module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.n_rows += inputs[0].shape[0] * inputs[0].shape[1]
        self.n_passes += 1


@pytest.mark.parametrize("stop", list(Stop))
def test_answers_are_those_of_plain_passes_and_every_row_is_counted(checkpoint, stop) -> None:
    plain, graphs = Harness(checkpoint, "eager"), Harness(checkpoint, "graphs")
    n_accepted = 0
    for n in (*range(0, 200, 14), len(SOURCE)):
        request = Request(document="d", prefix=SOURCE[:n], suffix="\n", stop=stop, max_tokens=40)
        n_before = graphs.n_rows
        answers = [list(each.decoder.complete(Job(request))) for each in (plain, graphs)]
        texts = [[(chunk.text, len(chunk.logprobs)) for chunk in answer] for answer in answers]
        assert texts[0] == texts[1]
        wanted, got = (answer[-1].counters for answer in answers)
        assert (got.finish, got.prompt, got.reused) == (wanted.finish, wanted.prompt, wanted.reused)
        assert graphs.n_rows - n_before == got.prefilled + got.decoded + got.wasted
        n_accepted += got.accepted
    assert n_accepted > 0 or stop is Stop.NEWLINE


def test_the_next_pass_is_launched_before_the_last_one_is_read(checkpoint) -> None:
    graphs = Harness(checkpoint, "graphs")
    request = Request(document="d", prefix="value = ", suffix="\n", stop=Stop.NONE, max_tokens=8)
    list(graphs.decoder.complete(Job(request)))
    graphs.n_passes, chunks = 0, graphs.decoder.complete(Job(request))
    n_passes = [graphs.n_passes for chunk in chunks if chunk.text]
    assert n_passes[0] in (0, 1)  # the prompt's last logits are kept, or a word is written again
    assert n_passes[1] >= 2


@pytest.mark.parametrize("n_passes", [0, 1, 2, 3, 5])
def test_a_cancel_is_heard_between_passes(checkpoint, n_passes) -> None:
    graphs = Harness(checkpoint, "graphs")
    job = Job(Request(document="d", prefix="value = 1\n", suffix="\n", stop=Stop.NONE, max_tokens=40))
    graphs.model.transformer.h[2].register_forward_hook(lambda *_: job.cancel() if graphs.n_passes >= n_passes else None)
    if not n_passes:
        job.cancel()
    counters = list(graphs.decoder.complete(job))[-1].counters
    assert counters.finish is Finish.CANCELLED
    assert graphs.n_passes == n_passes
    assert graphs.n_rows == counters.prefilled + counters.decoded + counters.wasted
