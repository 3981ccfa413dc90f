"""How fast a model of random weights runs on a device: prompts, tokens, keystrokes, cancels; and transformers beside it."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import transformers
from torch import Tensor

from engine.api import Chunk, Order, Request, Stop
from engine.cache_pool import CachedPrompt, CachePool
from engine.decoder import Decoder
from engine.fim import FimPrompt, Ids
from engine.graphs import LAST_PICK, StaticDecoder
from engine.heads import GPTBigCodeForCausalLM
from engine.jobs import Job
from engine.model_files import SHIPPED_MODEL
from engine.sampler import Sampler
from engine.steps import EagerStepper, Stepper
from engine.tally import Tally
from engine.tokenizer import Tokenizer

CYCLE = 40  # ids
REQUEST = Request(document="d", prefix="", suffix="", stop=Stop.NONE)


@dataclass(frozen=True, slots=True)
class Clock:
    """Times what a device does, to the end of it; medians of `n_times` after one run that is not counted.

    Of decoding, `n_tokens` are one time.
    """

    device: torch.device
    n_times: int
    n_tokens: int

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def ms(self, run: Callable[[], object]) -> float:
        times = []
        for _ in range(self.n_times + 1):
            self.wait()
            started_s = time.perf_counter()
            run()
            self.wait()
            times.append((time.perf_counter() - started_s) * 1000)
        return statistics.median(times[1:])


def random_ids(model: GPTBigCodeForCausalLM, n_tokens: int) -> Ids:
    """A prompt; all ids differ from those of special tokens."""
    generator = torch.Generator().manual_seed(n_tokens)
    return tuple(torch.randint(64, model.n_used_ids, (n_tokens,), generator=generator).tolist())


def filled(model: GPTBigCodeForCausalLM, ids: Ids) -> CachedPrompt:
    """A prompt that is cached already."""
    cached = CachedPrompt(model.new_cache())
    stepper = EagerStepper(model)
    for start in range(0, len(ids), 512):
        stepper.prefill(cached, ids[start : start + 512], Job(REQUEST), Tally(queue_ms=0.0))
    return cached


@torch.inference_mode()
def prefill_ms(model: GPTBigCodeForCausalLM, clock: Clock, n_tokens: int) -> float:
    """One forward pass over the whole prompt."""
    ids = torch.tensor([random_ids(model, n_tokens)], device=model.device)
    return clock.ms(lambda: model(ids, logits_to_keep=1))


def decode_ms(static: StaticDecoder, cached: CachedPrompt, clock: Clock, *, n_rows: int = 1, n_sequences: int = 1) -> float:
    """One pass in a row of many, each launched before the one ahead of it is read; `n_rows` of them with a draft.

    With several sequences, of windows or alternatives, a pass takes a token of each.
    """

    def run() -> None:
        static.load([cached.kv] * n_sequences)
        launched = static.launch([(cached.ids[-1],)] * n_sequences)
        for _ in range(clock.n_tokens):
            ahead = static.launch([(LAST_PICK, *(7,) * (n_rows - 1))] * n_sequences)
            launched.read()
            launched = ahead
        launched.read()

    return clock.ms(run) / (clock.n_tokens + 1)


@torch.inference_mode()
def decode_unrecorded_ms(model: GPTBigCodeForCausalLM, cached: CachedPrompt, clock: Clock) -> float:
    """A token by plain passes, each kernel launched by itself."""
    branch = cached.branch(len(cached.ids))

    def run() -> None:
        branch.kv.truncate(len(branch.ids))
        ids = torch.tensor([[branch.ids[-1]]], device=model.device)
        for _ in range(clock.n_tokens):
            ids = model(ids, kv_cache=branch.kv).logits.argmax(-1)

    return clock.ms(run) / clock.n_tokens


def keystroke_ms(model: GPTBigCodeForCausalLM, stepper: Stepper, cached: CachedPrompt, clock: Clock) -> float:
    """One more token of the prompt is prefilled and the next one picked; its number is on the host at the end."""
    sampler, n_before = Sampler(model.n_used_ids), len(cached.ids)

    def run() -> None:
        cached.truncate(n_before)
        stepper.prefill(cached, (100,), Job(REQUEST), Tally(queue_ms=0.0))
        sampler(cached.logits_after(n_before + 1))

    return clock.ms(run)


def cancel_ms(model: GPTBigCodeForCausalLM, stepper: Stepper, ids: Ids, n_times: int, *, decoding: bool) -> list[float]:
    """From `cancel` to the end of the answer, at moments spread over it."""
    tokenizer = Tokenizer.from_pretrained(SHIPPED_MODEL)
    waits = []
    for idx in range(n_times):
        decoder = Decoder(model, tokenizer, CachePool(model.new_cache, 1 << 40), stepper=stepper)
        request = Request(
            document="d",
            prefix="",
            suffix="",
            stop=Stop.NONE,
            max_tokens=min(200, model.config.n_positions - 80) if decoding else 1,
        )
        job, begun = Job(request), threading.Event()
        chunks = decoder.complete(job, FimPrompt(ids[:64] if decoding else ids, Order.SPM))

        def work(chunks: Iterator[Chunk] = chunks, begun: threading.Event = begun) -> None:
            if not decoding:
                begun.set()
            try:
                for _ in chunks:
                    begun.set()
            finally:
                begun.set()

        thread = threading.Thread(target=work)
        thread.start()
        begun.wait()
        time.sleep(0.001 * (idx % 10))
        started_s = time.perf_counter()
        job.cancel()
        thread.join()
        waits.append((time.perf_counter() - started_s) * 1000)
    return waits


@torch.no_grad()
def repeat_in_cycles(model: GPTBigCodeForCausalLM) -> None:
    """Changes the weights so that each id is followed by the next one of its cycle, as in text that repeats itself.

    Blocks add nothing to the stream, at the same cost, and the head looks for the id before.
    """
    for block in model.transformer.h:
        block.attn.c_proj.weight.zero_()
        block.mlp.c_proj.weight.zero_()
    ids = torch.arange(model.config.vocab_size, device=model.device)
    before = ids - ids % CYCLE + (ids - 1) % CYCLE
    weight = model.transformer.wte.weight
    model.lm_head.weight = torch.nn.Parameter(weight[before.clamp(max=len(weight) - 1)], requires_grad=False)


def repetitive(model: GPTBigCodeForCausalLM, stepper: Stepper, clock: Clock) -> dict[str, float]:
    """Whole answers behind a cached prompt, with drafts looked up in the text, by the engine's own decoder."""
    tokenizer, half = Tokenizer.from_pretrained(SHIPPED_MODEL), model.config.n_positions // 2
    decoder = Decoder(model, tokenizer, CachePool(model.new_cache, 1 << 40), stepper=stepper)
    ids = tuple(10 * CYCLE + idx % CYCLE for idx in range(min(half, 512)))
    request = Request(document="d", prefix="", suffix="", stop=Stop.NONE, max_tokens=min(half - 40, 256))
    counters = []
    ms = clock.ms(lambda: counters.append([*decoder.complete(Job(request), FimPrompt(ids, Order.SPM))][-1].counters))
    last = counters[-1]
    return {
        "tokens_per_s": request.max_tokens / ms * 1000,
        "finish": last.finish.value,
        "decoded": last.decoded,
        "drafted": last.drafted,
        "accepted": last.accepted,
    }


@contextmanager
def transformers_model(model: GPTBigCodeForCausalLM, attention: str) -> Iterator[object]:
    """transformers' model over the very same weights."""
    values = {key: value for key, value in model.config.to_dict().items() if key != "model_type"}
    shape = transformers.GPTBigCodeConfig(**values)
    before = torch.get_default_dtype()
    torch.set_default_dtype(model.dtype)
    try:
        with model.device:
            theirs = transformers.GPTBigCodeForCausalLM._from_config(shape, attn_implementation=attention)
    finally:
        torch.set_default_dtype(before)
    theirs.load_state_dict(model.state_dict(), assign=True)
    theirs.tie_weights()
    yield theirs.eval()


def their_prefill_ms(theirs: object, ids: Ids, clock: Clock) -> float:
    """One forward pass over the whole prompt."""
    rows = torch.tensor([ids], device=clock.device)

    @torch.inference_mode()
    def run() -> Tensor:
        return theirs(rows, use_cache=False, logits_to_keep=1).logits

    return clock.ms(run)


def their_decode_ms(theirs: object, ids: Ids, clock: Clock, **options: object) -> float:
    """A token of `generate`, whose prompt and set-up are taken off by a shorter run."""
    rows = torch.tensor([ids], device=clock.device)
    mask = torch.ones_like(rows)

    @torch.inference_mode()
    def run(n_tokens: int) -> Tensor:
        limits = {"max_new_tokens": n_tokens, "min_new_tokens": n_tokens, "do_sample": False, "pad_token_id": 0}
        return theirs.generate(rows, attention_mask=mask, **limits, **options)

    return (clock.ms(lambda: run(clock.n_tokens)) - clock.ms(lambda: run(2))) / (clock.n_tokens - 2)


def bandwidth(clock: Clock, n_bytes: int) -> float:
    """Bytes per second that a large copy reads and writes: what can be had of the memory."""
    source = torch.empty(n_bytes, dtype=torch.uint8, device=clock.device)
    target = torch.empty_like(source)
    return 2 * n_bytes / (clock.ms(lambda: target.copy_(source)) / 1000)


def bytes_per_token(model: GPTBigCodeForCausalLM, n_cached: int) -> int:
    """What a decoded token must read: every weight but the position table once, and the cache."""
    wpe = model.transformer.wpe.weight.nbytes
    weights = sum(parameter.nbytes for parameter in model.parameters()) - wpe
    return weights + n_cached * model.new_cache().shape.bytes_per_token
