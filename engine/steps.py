"""How rows go through the model for an answer, counted: eagerly, layer by layer, or in recorded passes of a fixed shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from engine.cache_pool import CachedPrompt
from engine.fim import Ids
from engine.graphs import LAST_PICK, MAX_ROWS, MAX_SEQUENCES, Launched, StaticDecoder
from engine.heads import GPTBigCodeForCausalLM
from engine.jobs import Job
from engine.quantized_model import QuantizedForCausalLM
from engine.sampler import Sampled, Sampler
from engine.slots import Decoding, EagerBatch, Slots
from engine.tally import Tally, interruptible

Model = GPTBigCodeForCausalLM | QuantizedForCausalLM
MIN_SIDE_BY_SIDE = 3  # alternatives, on a CPU: two are as fast one by one, with drafts


@dataclass(frozen=True, slots=True)
class Row:
    """What a pass of several sequences gave one of them: logits (V,), and what the device picked from them, if it did."""

    logits: Tensor
    picked: Sampled | None = None

    def pick(self, sampler: Sampler) -> Sampled:
        """The next token: the device's pick where the logits alone decide."""
        return self.picked if self.picked is not None and sampler.is_plain else sampler(self.logits)


class Stepper(Protocol):
    """A way to run the model for the decoder."""

    n_slots: int  # sequences of different requests that it decodes side by side

    def prefill(self, cached: CachedPrompt, ids: Ids, job: Job, tally: Tally) -> None:
        """Computes the ids behind the cached prompt, which then holds them and the logits after them."""
        ...

    def step(self, decoding: Decoding, ids: Ids) -> tuple[list[Sampled], int]:
        """Feeds a sequence's last token, with a draft behind it that may be cut; what plain decoding would sample, and how
        much of the draft was fed.

        Raises: Interrupted.
        """
        ...

    def step_together(self, fed: dict[Decoding, int]) -> dict[Decoding, Row]:
        """Feeds the last token of each of several sequences in one pass; the rows are good until the next one.

        Raises: Interrupted.
        """
        ...

    def leave(self, decoding: Decoding) -> None:
        """Ends a sequence: its cache then holds every token that was fed and right."""
        ...

    def n_together(self, n_alternatives: int) -> int:
        """How many of so many alternatives are best decoded at a time."""
        ...


class EagerStepper:
    """Plain passes, over the prompt's own cache or a batch of several alternatives; a cancel is heard before every layer."""

    n_slots = 1

    def __init__(self, model: Model) -> None:
        self._model = model
        self._batch = EagerBatch()
        self._slots = Slots(self._batch)

    def prefill(self, cached: CachedPrompt, ids: Ids, job: Job, tally: Tally) -> None:
        """See `Stepper`."""
        logits = self._forward(cached, ids, job, tally)
        if logits.is_cuda:  # a cancel would have to wait for whatever was launched ahead of it
            torch.cuda.current_stream(logits.device).synchronize()
        tally.prefilled += len(ids)
        cached.keep_logits(logits[-1])

    def step(self, decoding: Decoding, ids: Ids) -> tuple[list[Sampled], int]:
        """Runs the last token and the draft behind it in one pass over the cache, which then ends where the draft was wrong for
        the first time.

        See `Stepper`.
        """
        self._slots.hold([])
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
        return verified, len(ids) - 1

    def step_together(self, fed: dict[Decoding, int]) -> dict[Decoding, Row]:
        """See `Stepper`; the sequences are alternatives of one request, in step."""
        assert not isinstance(self._model, QuantizedForCausalLM)
        self._slots.hold(list(fed))
        job, tally = next((each.job, each.tally) for each in fed)
        with interruptible(job, tally, len(fed)) as before_layer, torch.inference_mode():
            ids = torch.tensor([[token_id] for token_id in fed.values()], device=self._model.device)  # (B, 1)
            logits = self._model(ids, kv_cache=self._batch.kv, before_layer=before_layer).logits[:, -1]  # (B, V)
        for decoding, token_id in fed.items():
            self._slots.note(decoding, (token_id,))
        tally.decoded += len(fed)
        return {decoding: Row(row) for decoding, row in zip(fed, logits, strict=True)}

    def leave(self, decoding: Decoding) -> None:
        """See `Stepper`."""
        self._slots.leave(decoding)

    def n_together(self, n_alternatives: int) -> int:
        """See `Stepper`; the int8 kernels take one sequence at a time."""
        few = n_alternatives < MIN_SIDE_BY_SIDE
        return 1 if few or isinstance(self._model, QuantizedForCausalLM) else n_alternatives

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
    """Recorded passes over copies of the prompts' caches; a cancel is heard between passes. Long prompts go eagerly.

    Rows that only fill a pass up to its shape are computed too, and count as wasted, with the first sequence's answer.
    """

    n_slots: int = MAX_SEQUENCES

    def __init__(self, model: GPTBigCodeForCausalLM, static: StaticDecoder) -> None:
        self._eager, self._static = EagerStepper(model), static
        self._slots = Slots(static)
        self._under_way: list[tuple[Launched, int]] = []  # passes of a single sequence, and the length of the draft in each

    def prefill(self, cached: CachedPrompt, ids: Ids, job: Job, tally: Tally) -> None:
        """See `Stepper`."""
        if len(ids) > MAX_ROWS:
            self._eager.prefill(cached, ids, job, tally)
            return
        job.check()
        self._hold([])
        self._static.load([cached.kv])
        launched = self._static.launch([ids], forced=True)
        self._static.store(0, cached.kv, len(ids))
        cached.append(ids)
        cached.keep_logits(launched.logits[0].clone())
        tally.prefilled += len(ids)
        tally.wasted += launched.n_rows - len(ids)

    def step(self, decoding: Decoding, ids: Ids) -> tuple[list[Sampled], int]:
        """See `Stepper`. While a pass without a draft runs, the next one is launched already."""
        self._hold([decoding])
        on_device = decoding.sampler.is_plain
        if not self._under_way:
            self._launch(decoding, ids[:MAX_ROWS] if on_device else ids[:1])
        launched, n_drafted = self._under_way[0]
        if on_device and not n_drafted:  # its one pick begins the next pass, whatever it is
            self._launch(decoding, (LAST_PICK, *ids[2 : MAX_ROWS + 1]))
        (picks,) = launched.read()
        self._under_way.pop(0)
        self._slots.note(decoding, (ids[0], *picks.token_ids[:-1]))
        self._count(decoding.tally, launched.n_rows, n_drafted, len(picks.token_ids))
        if not on_device:
            return [decoding.sampler(launched.logits[0])], 0
        return [Sampled(*pick) for pick in zip(picks.token_ids, picks.logprobs, strict=True)], n_drafted

    def step_together(self, fed: dict[Decoding, int]) -> dict[Decoding, Row]:
        """See `Stepper`."""
        self._hold(list(fed))
        launched = self._static.launch([(token_id,) for token_id in fed.values()])
        rows = {}
        for (decoding, token_id), picks, logits in zip(fed.items(), launched.read(), launched.logits, strict=False):
            self._slots.note(decoding, (token_id,))
            decoding.tally.decoded += 1
            rows[decoding] = Row(logits, Sampled(picks.token_ids[0], picks.logprobs[0]))
        next(iter(fed)).tally.wasted += launched.n_rows - len(fed)
        return rows

    def leave(self, decoding: Decoding) -> None:
        """See `Stepper`."""
        if self._slots.held == [decoding]:
            self._give_up_ahead(decoding)
        self._slots.leave(decoding)

    def n_together(self, n_alternatives: int) -> int:
        """See `Stepper`."""
        return min(n_alternatives, self.n_slots)

    def _hold(self, decodings: list[Decoding]) -> None:
        before = self._slots.held
        if len(before) == 1 and before[0] is not None and before != decodings:
            self._give_up_ahead(before[0])
        self._slots.hold(decodings)

    def _give_up_ahead(self, decoding: Decoding) -> None:
        """Lets go of the passes of a single sequence that nobody will read."""
        decoding.tally.wasted += sum(launched.n_rows for launched, _ in self._under_way)
        self._under_way.clear()

    def _launch(self, decoding: Decoding, ids: Ids) -> None:
        decoding.job.check()
        self._under_way.append((self._static.launch([ids]), len(ids) - 1))

    def _count(self, tally: Tally, n_rows: int, n_drafted: int, n_taken: int) -> None:
        tally.decoded += n_taken
        tally.drafted += n_drafted
        tally.accepted += n_taken - 1
        tally.wasted += n_rows - n_taken
