"""One completion, start to end: match the cache, prefill what is left in chunks, decode, stop.

Runs in the engine's worker thread. The cancel flag and the deadline are read before every layer of every forward pass.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from engine.allowance import Allowance
from engine.api import Chunk, Counters, Finish, Order, Window
from engine.cache_pool import CachedPrompt, CachePool
from engine.fim import FimPrompt, Ids
from engine.heads import GPTBigCodeForCausalLM
from engine.healing import Healing
from engine.jobs import Interrupted, Job
from engine.planner import Planner
from engine.quantized_model import QuantizedForCausalLM
from engine.recall import Recall, RecallWeights
from engine.sampler import Sampled, Sampler
from engine.speculate import PromptLookup
from engine.stopping import Writer
from engine.tokenizer import Tokenizer

CHUNK_TOKENS = 256  # prefill in one forward pass: larger gains nothing on a CPU
MIN_TELLING_TOKENS = 32


@dataclass(slots=True)
class Tally:
    """The counters of an answer while they are still counting, under the names that `Counters` gives them."""

    queue_ms: float
    order: Order = Order.SPM
    prompt: int = 0
    reused: int = 0
    prefilled: int = 0
    decoded: int = 0
    drafted: int = 0
    accepted: int = 0
    wasted: int = 0
    background: int = 0
    first_ms: float | None = None
    window: Window = Window.FULL
    finish: Finish = Finish.END_OF_TEXT

    def close(self, total_ms: float) -> Counters:
        """The counters as the answer carries them."""
        return Counters(**asdict(self), total_ms=total_ms)


class Rate:
    """How fast prompts are prefilled, measured on the chunks that tell it: the recent ones count most."""

    def __init__(self) -> None:
        self.tokens_per_ms = float("inf")  # until it is known, nothing is too long

    def note(self, n_tokens: int, duration_s: float) -> None:
        """Takes in one chunk; a short one says more about overhead than about the rate."""
        if n_tokens < MIN_TELLING_TOKENS:
            return
        measured = n_tokens / max(duration_s * 1000, 1e-3)
        self.tokens_per_ms = measured if self.tokens_per_ms == float("inf") else 0.7 * self.tokens_per_ms + 0.3 * measured


class Decoder:
    """Answers requests with one model, over one pool of caches; one job at a time."""

    def __init__(
        self,
        model: GPTBigCodeForCausalLM | QuantizedForCausalLM,
        tokenizer: Tokenizer,
        pool: CachePool,
        *,
        recall: RecallWeights | None = None,
        background: Allowance | None = None,
    ) -> None:
        self._model = model
        self._background = background or Allowance(None)
        self._tokenizer = tokenizer
        self._recall = recall
        self.pool = pool
        n_affordable = pool.budget_bytes // model.transformer.new_cache().shape.bytes_per_token
        self._planner = Planner(tokenizer, pool, min(model.config.n_positions, n_affordable))
        self._rate = Rate()

    def complete(self, job: Job, prompt: FimPrompt | None = None) -> Iterator[Chunk]:
        """Streams the answer; the last chunk carries the counters. A `prompt` given is taken instead of a planned one."""
        request = job.request
        document = self.pool.document(request.document)
        tally = Tally(queue_ms=job.elapsed_ms(), background=document.n_background)
        document.n_background = 0
        try:
            job.check()
            if prompt is None:
                prompt, tally.window = self._planner.plan(request, self._rate.tokens_per_ms, job.left_ms())
            document.asked = prompt
            cached = self.pool.take(request.document, prompt.ids)
            tally.order, tally.prompt, tally.reused = prompt.order, len(prompt.ids), len(cached.ids)
            self._prefill(cached, prompt.ids, job, tally)
            for choice in range(request.n):
                cached.truncate(len(prompt.ids))
                tally.finish = yield from self._decode(cached, prompt, choice, job, tally)
                document.written = cached.ids[len(prompt.ids) :]
        except Interrupted as interrupted:
            tally.finish = interrupted.finish
        yield Chunk(text="", choice=request.n - 1, counters=tally.close(job.elapsed_ms()))

    def prefetch(self, job: Job) -> None:
        """Brings up to date what is worth having cached at the request's place; what was done when it is interrupted stays."""
        request, tally = job.request, Tally(queue_ms=job.elapsed_ms())
        try:
            for prompt in self._planner.background_prompts(request):
                job.check()
                if not self.pool.holds(request.document, prompt.ids):
                    self._prefill(self.pool.take(request.document, prompt.ids), prompt.ids, job, tally)
        except Interrupted:
            pass  # a request has come: it finds the chunks that were finished
        self.pool.document(request.document).n_background += tally.prefilled + tally.wasted

    def forget(self, document: str) -> None:
        """Drops what is kept for the document."""
        self.pool.forget(document)

    def _prefill(self, cached: CachedPrompt, ids: Ids, job: Job, tally: Tally) -> None:
        """Computes what the cache lacks of the prompt, whose last logits it then keeps."""
        n_needed = len(ids) - len(cached.ids) + job.request.max_tokens
        self.pool.make_room(cached, n_needed)
        cached.kv.reserve(n_needed)
        while len(cached.ids) < len(ids):
            chunk = ids[len(cached.ids) : len(cached.ids) + CHUNK_TOKENS]
            if job.is_background and not self._background.take(len(chunk)):
                raise Interrupted(Finish.CANCELLED)
            started_s = time.monotonic()
            logits = self._forward(cached, chunk, job, tally)
            self._rate.note(len(chunk), time.monotonic() - started_s)
            tally.prefilled += len(chunk)
            cached.keep_logits(logits[-1])

    def _decode(
        self, cached: CachedPrompt, prompt: FimPrompt, choice: int, job: Job, tally: Tally
    ) -> Generator[Chunk, None, Finish]:
        """Streams one alternative behind the cached prompt; returns why it ended.

        The first token of alternative k is the k-th likeliest, so that greedy alternatives differ from the start.
        """
        request, greedy = job.request, job.request.temperature == 0
        healing = Healing(prompt.healed, self._tokenizer)
        recall = Recall.of_prompt(prompt, request, self._tokenizer, self._recall) if self._recall else None
        sampler = Sampler(self._tokenizer.n_vocab, request.temperature, recall=recall, healing=healing)
        writer = Writer(request, self._tokenizer, choice, len(healing.left))
        lookup = PromptLookup(cached.ids, self.pool.related(request.document), request.max_tokens + len(prompt.healed))
        upcoming = iter([sampler(cached.logits_after(len(prompt.ids)), rank=choice)])
        while True:
            for sampled in upcoming:
                chunk, finish = writer.feed(sampled)
                if chunk is not None:
                    tally.first_ms = job.elapsed_ms() if tally.first_ms is None else tally.first_ms
                    yield chunk
                if finish is not None:
                    return finish
                lookup.append(sampled.token_id)
            draft = healing.draft() or (lookup.draft(writer.n_left - 1) if greedy else ())
            try:
                verified = self._verify(cached, (sampled.token_id, *draft), sampler, job, tally)
            except Interrupted:
                if (chunk := writer.rest()) is not None:
                    yield chunk
                raise
            lookup.learn(len(draft), len(verified) - 1)
            upcoming = iter(verified)

    def _verify(self, cached: CachedPrompt, ids: Ids, sampler: Sampler, job: Job, tally: Tally) -> list[Sampled]:
        """Runs the last token and the draft behind it in one pass; the tokens that plain decoding would have sampled.

        The cache then ends where the draft was wrong for the first time.
        """
        n_cached = len(cached.ids)
        logits = self._forward(cached, ids, job, tally, n_logits=len(ids))  # (T, V)
        verified: list[Sampled] = []
        while not verified or (len(verified) < len(ids) and verified[-1].token_id == ids[len(verified)]):
            verified.append(sampler(logits[len(verified)]))
        cached.truncate(n_cached + len(verified))
        tally.decoded += len(verified)
        tally.drafted += len(ids) - 1
        tally.accepted += len(verified) - 1
        tally.wasted += len(ids) - len(verified)
        return verified

    def _forward(self, cached: CachedPrompt, ids: Ids, job: Job, tally: Tally, n_logits: int = 1) -> Tensor:
        """Runs the ids through the model behind the cached prompt, which then holds them.

        Shapes: result (n_logits, V), after the last ids.
        """
        n_layers = 0

        def before_layer() -> None:
            nonlocal n_layers
            job.check()
            n_layers += 1

        try:
            with torch.inference_mode():
                rows = torch.tensor([ids], device=self._model.device)
                logits = self._model(rows, kv_cache=cached.kv, logits_to_keep=n_logits, before_layer=before_layer).logits
        except Interrupted:
            tally.wasted += len(ids) if n_layers else 0
            raise
        cached.append(ids)
        rows_of_logits: Tensor = logits[0]
        return rows_of_logits
