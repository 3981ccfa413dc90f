"""How rows go through the model for an answer, counted: eagerly, layer by layer, or in recorded passes of a fixed shape."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from engine.alternatives import MIN_SIDE_BY_SIDE, Alternative, BatchedLanes, GraphLanes, Lanes
from engine.cache_pool import CachedPrompt
from engine.fim import Ids
from engine.graphs import LAST_PICK, MAX_ROWS, MAX_SEQUENCES, Launched, StaticDecoder
from engine.heads import GPTBigCodeForCausalLM
from engine.jobs import Job
from engine.quantized_model import QuantizedForCausalLM
from engine.sampler import Sampled, Sampler
from engine.tally import Tally, interruptible

Model = GPTBigCodeForCausalLM | QuantizedForCausalLM


@dataclass(frozen=True, slots=True)
class Decoding:
    """One alternative on its way: what it stands behind, and what picks the next token."""

    cached: CachedPrompt
    sampler: Sampler
    job: Job
    tally: Tally


class Step(Protocol):
    """One step of decoding."""

    def __call__(self, ids: Ids) -> tuple[list[Sampled], int]:
        """Feeds the last token, with a draft behind it that a step may cut; what plain decoding would sample, and how much
        of a draft was fed.

        Raises: Interrupted.
        """
        ...


class Stepper(Protocol):
    """A way to run the model for the decoder."""

    def prefill(self, cached: CachedPrompt, ids: Ids, job: Job, tally: Tally) -> None:
        """Computes the ids behind the cached prompt, which then holds them and the logits after them."""
        ...

    @contextmanager
    def decoding(self, decoding: Decoding) -> Iterator[Step]:
        """Steps behind the cached prompt, which at the end holds every token that was fed and right."""
        ...

    def goes_side_by_side(self, n_alternatives: int) -> bool:
        """Whether so many alternatives are better decoded in `lanes` than one by one."""
        ...

    def lanes(self, cached: CachedPrompt, alternatives: list[Alternative]) -> Lanes:
        """Places for several alternatives behind the cached prompt."""
        ...


class EagerStepper:
    """Plain forward passes over the prompt's own cache; a cancel is heard before every layer."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def prefill(self, cached: CachedPrompt, ids: Ids, job: Job, tally: Tally) -> None:
        """See `Stepper`."""
        logits = self._forward(cached, ids, job, tally)
        if logits.is_cuda:  # a cancel would have to wait for whatever was launched ahead of it
            torch.cuda.current_stream(logits.device).synchronize()
        tally.prefilled += len(ids)
        cached.keep_logits(logits[-1])

    @contextmanager
    def decoding(self, decoding: Decoding) -> Iterator[Step]:
        """See `Stepper`."""
        yield lambda ids: (self._verify(decoding, ids), len(ids) - 1)

    def goes_side_by_side(self, n_alternatives: int) -> bool:
        """See `Stepper`; the int8 kernels take one sequence at a time."""
        return n_alternatives >= MIN_SIDE_BY_SIDE and not isinstance(self._model, QuantizedForCausalLM)

    def lanes(self, cached: CachedPrompt, alternatives: list[Alternative]) -> Lanes:
        """See `Stepper`."""
        assert not isinstance(self._model, QuantizedForCausalLM)
        return BatchedLanes(self._model, cached, alternatives)

    def _verify(self, decoding: Decoding, ids: Ids) -> list[Sampled]:
        """Runs the last token and the draft behind it in one pass; the tokens that plain decoding would have sampled.

        The cache then ends where the draft was wrong for the first time.
        """
        cached, tally = decoding.cached, decoding.tally
        n_cached = len(cached.ids)
        logits = self._forward(cached, ids, decoding.job, tally, n_logits=len(ids))  # (T, V)
        verified: list[Sampled] = []
        while not verified or (len(verified) < len(ids) and verified[-1].token_id == ids[len(verified)]):
            verified.append(decoding.sampler(logits[len(verified)]))
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
        with interruptible(job, tally, len(ids)) as before_layer, torch.inference_mode():
            rows = torch.tensor([ids], device=self._model.device)
            logits = self._model(rows, kv_cache=cached.kv, logits_to_keep=n_logits, before_layer=before_layer).logits
        cached.append(ids)
        rows_of_logits: Tensor = logits[0]
        return rows_of_logits


class GraphStepper:
    """Recorded passes over a copy of the prompt's cache; a cancel is heard between passes. Long prompts go eagerly.

    Rows that only fill a pass up to its shape are computed too, and count as wasted.
    """

    def __init__(self, model: GPTBigCodeForCausalLM, static: StaticDecoder) -> None:
        self._eager, self._static = EagerStepper(model), static

    def prefill(self, cached: CachedPrompt, ids: Ids, job: Job, tally: Tally) -> None:
        """See `Stepper`."""
        if len(ids) > MAX_ROWS:
            self._eager.prefill(cached, ids, job, tally)
            return
        job.check()
        self._static.load([cached.kv])
        launched = self._static.launch([ids], forced=True)
        self._static.store(0, cached.kv, len(ids))
        cached.append(ids)
        cached.keep_logits(launched.logits[0].clone())
        tally.prefilled += len(ids)
        tally.wasted += launched.n_rows - len(ids)

    @contextmanager
    def decoding(self, decoding: Decoding) -> Iterator[Step]:
        """See `Stepper`."""
        self._static.load([decoding.cached.kv], [decoding.sampler.temperature])
        steps = _GraphSteps(self._static, decoding)
        try:
            yield steps.step
        finally:
            steps.close()

    def goes_side_by_side(self, n_alternatives: int) -> bool:
        """See `Stepper`."""
        return n_alternatives > 1

    def lanes(self, cached: CachedPrompt, alternatives: list[Alternative]) -> Lanes:
        """See `Stepper`."""
        fit = len(alternatives) <= MAX_SEQUENCES
        return GraphLanes(self._static, cached, alternatives) if fit else self._eager.lanes(cached, alternatives)


class _GraphSteps:
    """The passes of one alternative. While a pass without a draft runs, the next one is launched already."""

    def __init__(self, static: StaticDecoder, decoding: Decoding) -> None:
        self._static, self._decoding = static, decoding
        self._ids: Ids = ()  # fed and right, so far
        self._under_way: list[tuple[Launched, int]] = []  # and the length of the draft in it

    def step(self, ids: Ids) -> tuple[list[Sampled], int]:
        """See `Step`."""
        on_device = self._decoding.sampler.is_plain
        if not self._under_way:
            self._launch(ids[:MAX_ROWS] if on_device else ids[:1])
        launched, n_drafted = self._under_way[0]
        if on_device and not n_drafted:  # its one pick begins the next pass, whatever it is
            self._launch((LAST_PICK, *ids[2 : MAX_ROWS + 1]))
        (picks,) = launched.read()
        self._under_way.pop(0)
        self._ids += (ids[0], *picks.token_ids[:-1])
        self._count(launched.n_rows, n_drafted, len(picks.token_ids))
        if not on_device:
            return [self._decoding.sampler(launched.logits[0])], 0
        return [Sampled(*pick) for pick in zip(picks.token_ids, picks.logprobs, strict=True)], n_drafted

    def close(self) -> None:
        """Gives the cache its rows, and up what runs ahead of them."""
        self._decoding.tally.wasted += sum(launched.n_rows for launched, _ in self._under_way)
        self._static.store(0, self._decoding.cached.kv, len(self._ids))
        self._decoding.cached.append(self._ids)

    def _launch(self, ids: Ids) -> None:
        self._decoding.job.check()
        self._under_way.append((self._static.launch([ids]), len(ids) - 1))

    def _count(self, n_rows: int, n_drafted: int, n_taken: int) -> None:
        tally = self._decoding.tally
        tally.decoded += n_taken
        tally.drafted += n_drafted
        tally.accepted += n_taken - 1
        tally.wasted += n_rows - n_taken
