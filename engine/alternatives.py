"""Several alternatives of one prompt, decoded side by side: every pass feeds the next token of each that still runs.

The weights are read once for all of them. No drafts: an alternative is rarely what stood there before.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from engine.api import Chunk, Finish
from engine.cache_pool import CachedPrompt
from engine.fim import Ids
from engine.graphs import StaticDecoder
from engine.heads import GPTBigCodeForCausalLM
from engine.healing import Healing
from engine.jobs import Interrupted, Job
from engine.sampler import Sampled, Sampler
from engine.stopping import Writer
from engine.tally import Tally, interruptible

MIN_SIDE_BY_SIDE = 3  # on a CPU: two are as fast one by one, with drafts


@dataclass(slots=True)
class Alternative:
    """One of several; `sampled` is its next token, neither written nor fed yet."""

    sampler: Sampler
    healing: Healing
    writer: Writer
    sampled: Sampled
    fed: Ids = ()
    finish: Finish | None = None

    def advance(self, logits: Tensor, picked: Sampled | None = None) -> None:
        """Its token was fed; takes the next, the one that was `picked` already where the logits alone decide."""
        self.fed += (self.sampled.token_id,)
        self.sampled = picked if picked is not None and self.sampler.is_plain else self.sampler(logits)


class Lanes(Protocol):
    """Where the alternatives' keys and values are while they are decoded."""

    def feed(self, alternatives: list[Alternative], job: Job, tally: Tally) -> None:
        """One pass for those that are not finished.

        Raises: Interrupted.
        """
        ...

    def close(self) -> None:
        """Gives the prompt's cache the first alternative's rows: the likeliest to be accepted."""
        ...


def decode_together(alternatives: list[Alternative], lanes: Lanes, job: Job, tally: Tally) -> Generator[Chunk, None, Finish]:
    """Streams all alternatives, mixed; returns why the last one ended."""
    try:
        while True:
            for each in alternatives:
                if each.finish is not None:
                    continue
                chunk, each.finish = each.writer.feed(each.sampled)
                if chunk is not None:
                    tally.first_ms = job.elapsed_ms() if tally.first_ms is None else tally.first_ms
                    yield chunk
            finishes = [each.finish for each in alternatives if each.finish is not None]
            if len(finishes) == len(alternatives):
                return finishes[-1]
            lanes.feed(alternatives, job, tally)
    except Interrupted:
        yield from (chunk for each in alternatives if each.finish is None and (chunk := each.writer.rest()) is not None)
        raise
    finally:
        lanes.close()


class BatchedLanes:
    """Copies of the prompt's cache as one batch; the finished leave it. A cancel is heard before every layer."""

    def __init__(self, model: GPTBigCodeForCausalLM, cached: CachedPrompt, alternatives: list[Alternative]) -> None:
        self._model, self._cached, self._first = model, cached, alternatives[0]
        self._running = list(alternatives)
        self._kv = cached.kv.repeated(len(alternatives))

    def feed(self, alternatives: list[Alternative], job: Job, tally: Tally) -> None:
        """See `Lanes`."""
        self._leave()
        with interruptible(job, tally, len(self._running)) as before_layer, torch.inference_mode():
            ids = torch.tensor([[each.sampled.token_id] for each in self._running], device=self._model.device)
            logits = self._model(ids, kv_cache=self._kv, before_layer=before_layer).logits[:, -1]  # (B, V)
        tally.decoded += len(self._running)
        for each, row in zip(self._running, logits, strict=True):
            each.advance(row)

    def close(self) -> None:
        """See `Lanes`."""
        if self._first in self._running:
            self._cached.kv.extend(self._kv.rows(self._cached.kv.length)[:, :1])
            self._cached.append(self._first.fed)

    def _leave(self) -> None:
        going = [idx for idx, each in enumerate(self._running) if each.finish is None]
        if len(going) < len(self._running):
            if going[0] > 0:
                self.close()
            self._running = [self._running[idx] for idx in going]
            self._kv = self._kv.selected(going)


class GraphLanes:
    """Places of the static cache. The finished go on idly, for a pass costs the same with them, and count as wasted."""

    def __init__(self, static: StaticDecoder, cached: CachedPrompt, alternatives: list[Alternative]) -> None:
        self._static, self._cached, self._first = static, cached, alternatives[0]
        self._static.load([cached.kv] * len(alternatives), [each.sampler.temperature for each in alternatives])

    def feed(self, alternatives: list[Alternative], job: Job, tally: Tally) -> None:
        """See `Lanes`."""
        job.check()
        launched = self._static.launch([(each.sampled.token_id,) for each in alternatives])
        n_running = 0
        for each, picks, row in zip(alternatives, launched.read(), launched.logits, strict=False):
            if each.finish is None:
                each.advance(row, Sampled(picks.token_ids[0], picks.logprobs[0]))
                n_running += 1
        tally.decoded += n_running
        tally.wasted += launched.n_rows - n_running

    def close(self) -> None:
        """See `Lanes`."""
        self._static.store(0, self._cached.kv, len(self._first.fed))
        self._cached.append(self._first.fed)
