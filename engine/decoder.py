"""One completion, start to end: match the cache, prefill what is left in chunks, decode, stop.

Runs in the engine's worker thread. The cancel flag and the deadline are read before every layer of every forward pass.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.api import Chunk, Counters, Finish, Order, Request
from engine.cache_pool import CachedPrompt, CachePool
from engine.fim import FimPrompt, build_prompt, fit
from engine.heads import GPTBigCodeForCausalLM
from engine.jobs import Interrupted, Job
from engine.sampler import Sampler
from engine.stopping import Writer
from engine.tokenizer import Tokenizer

CHUNK_TOKENS = 256  # prefill in one forward pass: larger gains nothing on a CPU


@dataclass(slots=True)
class Tally:
    """The counters of an answer while they are still counting."""

    queue_ms: float
    order: Order = Order.SPM
    prompt: int = 0
    reused: int = 0
    prefilled: int = 0
    decoded: int = 0
    wasted: int = 0
    background: int = 0
    first_ms: float | None = None

    def close(self, finish: Finish, total_ms: float) -> Counters:
        """The counters as the answer carries them."""
        return Counters(
            prompt=self.prompt,
            reused=self.reused,
            prefilled=self.prefilled,
            decoded=self.decoded,
            wasted=self.wasted,
            background=self.background,
            queue_ms=self.queue_ms,
            first_ms=self.first_ms,
            total_ms=total_ms,
            order=self.order,
            finish=finish,
        )


class Decoder:
    """Answers requests with one model, over one pool of caches; one job at a time."""

    def __init__(self, model: GPTBigCodeForCausalLM, tokenizer: Tokenizer, pool: CachePool) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._pool = pool
        self._background: dict[str, int] = {}  # document -> tokens prefetched since its last answer

    def complete(self, job: Job) -> Iterator[Chunk]:
        """Streams the answer; the last chunk carries the counters."""
        request = job.request
        tally = Tally(queue_ms=job.elapsed_ms(), background=self._background.pop(request.document, 0))
        finish = Finish.END_OF_TEXT
        try:
            job.check()
            prompt = self.prompt_of(request)
            cached = self._pool.take(request.document, prompt)
            tally.order, tally.prompt, tally.reused = prompt.order, len(prompt.ids), len(cached.ids)
            logits = self._prefill(cached, prompt, job, tally)
            for choice in range(request.n):
                cached.truncate(len(prompt.ids))
                finish = yield from self._decode(cached, logits, choice, job, tally)
        except Interrupted as interrupted:
            finish = interrupted.finish
        self._pool.trim()
        yield Chunk(text="", choice=request.n - 1, counters=tally.close(finish, job.elapsed_ms()))

    def prefetch(self, job: Job) -> None:
        """Prefills the request's prompt; what is done when it is interrupted stays."""
        prompt = self.prompt_of(job.request)
        tally = Tally(queue_ms=job.elapsed_ms())
        try:
            job.check()
            if self._pool.n_uncached(job.request.document, prompt):
                self._prefill(self._pool.take(job.request.document, prompt), prompt, job, tally)
        except Interrupted:
            pass
        self._pool.trim()
        n_rows = tally.prefilled + tally.wasted
        self._background[job.request.document] = self._background.get(job.request.document, 0) + n_rows

    def forget(self, document: str) -> None:
        """Drops what is kept for the document."""
        self._pool.forget(document)
        self._background.pop(document, None)

    def prompt_of(self, request: Request) -> FimPrompt:
        """The ids for the request, in its order, or in whichever has fewer uncached tokens."""
        n_tokens = self._model.config.n_positions - request.max_tokens
        encode = self._tokenizer.encode
        prefix_ids, suffix_ids = fit(encode(request.prefix), encode(request.suffix), n_tokens)
        if request.order is not Order.AUTO:
            return build_prompt(prefix_ids, suffix_ids, request.order, self._tokenizer.special)
        prompts = [build_prompt(prefix_ids, suffix_ids, order, self._tokenizer.special) for order in (Order.SPM, Order.PSM)]
        return min(prompts, key=lambda prompt: self._pool.n_uncached(request.document, prompt))

    def _prefill(self, cached: CachedPrompt, prompt: FimPrompt, job: Job, tally: Tally) -> Tensor:
        """Computes what the cache lacks of the prompt; the logits after its last token. Shapes: result (V,)."""
        logits = torch.empty(0)
        while len(cached.ids) < len(prompt.ids):
            chunk = prompt.ids[len(cached.ids) : len(cached.ids) + CHUNK_TOKENS]
            logits = self._forward(cached, chunk, job, tally)
            tally.prefilled += len(chunk)
        return logits

    def _decode(
        self, cached: CachedPrompt, logits: Tensor, choice: int, job: Job, tally: Tally
    ) -> Generator[Chunk, None, Finish]:
        """Streams one alternative, given the logits after the prompt; returns why it ended.

        The first token of alternative k is the k-th likeliest, so that greedy alternatives differ from the start.
        """
        sampler = Sampler(self._tokenizer.n_vocab, job.request.temperature)
        writer = Writer(job.request, self._tokenizer, choice)
        sampled = sampler(logits, rank=choice)
        while True:
            chunk, finish = writer.feed(sampled)
            if chunk is not None:
                tally.first_ms = job.elapsed_ms() if tally.first_ms is None else tally.first_ms
                yield chunk
            if finish is not None:
                return finish
            try:
                logits = self._forward(cached, (sampled.token_id,), job, tally)
            except Interrupted:
                if (chunk := writer.rest()) is not None:
                    yield chunk
                raise
            tally.decoded += 1
            sampled = sampler(logits)

    def _forward(self, cached: CachedPrompt, ids: tuple[int, ...], job: Job, tally: Tally) -> Tensor:
        """Runs the ids through the model behind the cached prompt; the logits after the last. Shapes: result (V,)."""
        n_layers = 0

        def before_layer() -> None:
            nonlocal n_layers
            job.check()
            n_layers += 1

        try:
            with torch.inference_mode():
                rows = torch.tensor([ids], device=self._model.device)
                logits = self._model(rows, kv_cache=cached.kv, logits_to_keep=1, before_layer=before_layer).logits
        except Interrupted:
            tally.wasted += len(ids) if n_layers else 0
            raise
        cached.append(ids)
        last: Tensor = logits[0, -1]
        return last
