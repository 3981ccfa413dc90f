"""Which sequences lie in which slots of a batch while one pass after the other takes a token of each.

Who is decoded changes rarely, and then all move: the new rows of those who were there go back to their own caches, and the
caches of those who are there now are copied in. So a sequence needs to know of no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from engine.cache_pool import CachedPrompt
from engine.fim import Ids
from engine.jobs import Job
from engine.kv_cache import KVCache
from engine.sampler import Sampler
from engine.tally import Tally


@dataclass(frozen=True, slots=True, eq=False)
class Decoding:
    """One sequence on its way: what it stands behind, what picks its next token, and whose it is."""

    cached: CachedPrompt
    sampler: Sampler
    job: Job
    tally: Tally


class Batch(Protocol):
    """Memory for the keys and values of several sequences."""

    def load(self, caches: Sequence[KVCache], temperatures: Sequence[float]) -> None:
        """Copies each cache into one slot, from the first on; what was there is gone."""
        ...

    def store(self, idx: int, cache: KVCache, n_rows: int) -> None:
        """Puts `n_rows` of a slot, behind those that the cache has, into the cache."""
        ...


class EagerBatch:
    """A batch for plain forward passes, whose sequences have one length."""

    def __init__(self) -> None:
        self.kv: KVCache | None = None

    def load(self, caches: Sequence[KVCache], temperatures: Sequence[float]) -> None:
        """See `Batch`; the host picks, whatever the temperature."""
        self.kv = None  # freed before its successor is allocated
        if caches:
            self.kv = KVCache.stacked(caches)

    def store(self, idx: int, cache: KVCache, n_rows: int) -> None:
        """See `Batch`."""
        assert self.kv is not None
        cache.extend(self.kv.rows(cache.length)[:, idx : idx + 1, :, :n_rows])


class Slots:
    """Who lies where in a batch, and what of each is not in its own cache yet."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._new_ids: list[Ids] = []  # by slot: tokens fed and right, behind those in the cache
        self.held: list[Decoding | None] = []  # by slot; None where one has left

    def hold(self, decodings: list[Decoding]) -> None:
        """Makes these the ones who are there."""
        if self.held == decodings:
            return
        for decoding in self.held:
            if decoding is not None:
                self._give_back(decoding)
        self._batch.load(
            [each.cached.kv for each in decodings],
            [each.sampler.temperature for each in decodings],
        )
        self.held, self._new_ids = list(decodings), [()] * len(decodings)

    def note(self, decoding: Decoding, ids: Ids) -> None:
        """Takes in tokens whose rows a pass has put into the decoding's slot."""
        self._new_ids[self.held.index(decoding)] += ids

    def leave(self, decoding: Decoding) -> None:
        """Frees the slot of one that has ended, if it had one; the others stay where they are."""
        if decoding in self.held:
            self._give_back(decoding)
            if not any(self.held):
                self.hold([])

    def _give_back(self, decoding: Decoding) -> None:
        idx = self.held.index(decoding)
        self.held[idx] = None  # also where there is no memory to store to
        self._batch.store(idx, decoding.cached.kv, len(self._new_ids[idx]))
        decoding.cached.append(self._new_ids[idx])
