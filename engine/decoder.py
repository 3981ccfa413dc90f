"""One completion, start to end: match the cache, prefill what is left in chunks, decode, stop.

Runs in the engine's worker thread. The cancel flag and the deadline are read before every layer, in int8 before a millisecond's
worth of them, in recorded passes before each. Where the device decodes several sequences side by side, several completions may
be under way: each is a generator that gives way before its passes, and they meet in `lockstep.py`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from engine.allowance import Allowance
from engine.alternatives import Answering, side_by_side
from engine.api import Chunk, Finish
from engine.cache_pool import CachedPrompt, CachePool
from engine.fim import FimPrompt, Ids
from engine.healing import Healing
from engine.jobs import Interrupted, Job
from engine.lockstep import Lockstep
from engine.planner import Planner
from engine.recall import Recall, RecallWeights
from engine.sampler import Sampler
from engine.slots import Decoding
from engine.speculate import PromptLookup
from engine.steps import EagerStepper, Model, Stepper
from engine.stopping import Writer
from engine.tally import Rate, Tally
from engine.tokenizer import Tokenizer

CHUNK_TOKENS = 256  # prefill in one forward pass: larger gains nothing on a CPU


class Decoder:
    """Answers requests with one model, over one pool of caches."""

    def __init__(
        self,
        model: Model,
        tokenizer: Tokenizer,
        pool: CachePool,
        *,
        recall: RecallWeights | None = None,
        background: Allowance | None = None,
        stepper: Stepper | None = None,
    ) -> None:
        self._stepper = stepper or EagerStepper(model)
        self._lockstep = Lockstep(self._stepper)
        self._background = background or Allowance(None)
        self._tokenizer = tokenizer
        self._recall = recall
        self.pool = pool
        n_affordable = pool.budget_bytes // model.transformer.new_cache().shape.bytes_per_token
        self._planner = Planner(tokenizer, pool, min(model.config.n_positions, n_affordable))
        self._rate = Rate()
        n_full_prompts = n_affordable // model.config.n_positions
        self.n_slots = max(min(self._stepper.n_slots, n_full_prompts), 1)  # alternatives that may be under way, of all requests

    def complete(self, job: Job, prompt: FimPrompt | None = None) -> Iterator[Chunk]:
        """Streams the answer to a request that is under way alone; see `answer`."""
        return (chunk for chunk in self.answer(job, prompt) if chunk is not None)

    def answer(self, job: Job, prompt: FimPrompt | None = None) -> Iterator[Chunk | None]:
        """Streams the answer; the last chunk carries the counters. A `prompt` given is taken instead of a planned one.

        None comes before a pass: other answers, each of a document of its own, may be taken to theirs, and one pass then takes
        a token of each.
        """
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
            with self.pool.in_use(cached):
                yield from self._prefill(cached, prompt.ids, job, tally)
                tally.finish = yield from self._decode_all(cached, prompt, job, tally)
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
                    for _ in self._prefill(self.pool.take(request.document, prompt.ids), prompt.ids, job, tally):
                        pass
        except Interrupted:
            pass  # a request has come: it finds the chunks that were finished
        self.pool.document(request.document).n_background += tally.prefilled + tally.wasted

    def forget(self, document: str) -> None:
        """Drops what is kept for the document."""
        self.pool.forget(document)

    def _prefill(self, cached: CachedPrompt, ids: Ids, job: Job, tally: Tally) -> Iterator[None]:
        """Computes what the cache lacks of the prompt, whose last logits it then keeps; gives way between chunks."""
        n_needed = len(ids) - len(cached.ids) + job.request.max_tokens
        self.pool.make_room(cached, n_needed)
        cached.kv.reserve(n_needed)
        while len(cached.ids) < len(ids):
            chunk = ids[len(cached.ids) : len(cached.ids) + CHUNK_TOKENS]
            if job.is_background and not self._background.take(len(chunk)):
                raise Interrupted(Finish.CANCELLED)
            started_s = time.monotonic()
            self._stepper.prefill(cached, chunk, job, tally)
            self._rate.note(len(chunk), time.monotonic() - started_s)
            if len(cached.ids) < len(ids):
                yield

    def _decode_all(self, cached: CachedPrompt, prompt: FimPrompt, job: Job, tally: Tally) -> Answering:
        """Streams all alternatives, side by side where that is faster and the caches' budget has room; why the last ended.

        The cache then holds the first of those that went side by side, the likeliest to be accepted.
        """
        cached.truncate(len(prompt.ids))
        n_alternatives = job.request.n
        n_most = (len(prompt.ids) + job.request.max_tokens) * n_alternatives
        has_room = n_most * cached.kv.shape.bytes_per_token <= self.pool.budget_bytes
        n_together = self._stepper.n_together(n_alternatives) if has_room else 1
        if n_together > 1:
            caches = [cached, *(cached.branch(len(prompt.ids)) for _ in range(1, n_alternatives))]
            alternatives = [self._decode(each, prompt, choice, job, tally) for choice, each in enumerate(caches)]
            return (yield from side_by_side(alternatives, n_together))
        for choice in range(n_alternatives):
            cached.truncate(len(prompt.ids))
            finish = yield from self._decode(cached, prompt, choice, job, tally)
        return finish

    def _decode(self, cached: CachedPrompt, prompt: FimPrompt, choice: int, job: Job, tally: Tally) -> Answering:
        """Streams one alternative behind the cached prompt; returns why it ended.

        Its first token is the k-th likeliest for the k-th, so that greedy ones differ from the start.
        """
        request, greedy = job.request, job.request.temperature == 0
        healing = Healing(prompt.healed, self._tokenizer)
        recall = Recall.of_prompt(prompt, request, self._tokenizer, self._recall) if self._recall else None
        sampler = Sampler(self._tokenizer.n_vocab, request.temperature, recall=recall, healing=healing)
        writer = Writer(request, self._tokenizer, choice, len(healing.left))
        lookup = PromptLookup(cached.ids, self.pool.related(request.document), request.max_tokens + len(prompt.healed))
        upcoming = [sampler(cached.logits_after(len(prompt.ids)), rank=choice)]
        decoding = Decoding(cached, sampler, job, tally)
        with self._lockstep.joined(decoding):
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
                    upcoming, n_drafted = yield from self._lockstep.step(decoding, (sampled.token_id, *draft))
                except Interrupted:
                    if (chunk := writer.rest()) is not None:
                        yield chunk
                    raise
                lookup.learn(n_drafted, len(upcoming) - 1)
