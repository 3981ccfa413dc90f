"""Every cached prompt of every document, under one byte budget, the least recently used out first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from engine.api import Order
from engine.fim import FimPrompt
from engine.kv_cache import KVCache

Key = tuple[str, Order]


class CachedPrompt:
    """Token ids and their keys and values; the cache holds rows for exactly the ids."""

    def __init__(self, kv: KVCache) -> None:
        self.kv = kv
        self.ids: list[int] = []

    def n_matching(self, ids: tuple[int, ...]) -> int:
        """How many of the ids, from the first on, are cached."""
        n = 0
        for cached_id, wanted_id in zip(self.ids, ids, strict=False):
            if cached_id != wanted_id:
                break
            n += 1
        return n

    def truncate(self, length: int) -> None:
        """Keeps the first `length` tokens only."""
        self.kv.truncate(length)
        del self.ids[length:]

    def append(self, ids: tuple[int, ...]) -> None:
        """Notes the ids whose rows a finished forward pass has committed."""
        self.ids.extend(ids)
        assert len(self.ids) == self.kv.length


class CachePool:
    """Owns the caches. One prompt per document and order; what is handed out last is never evicted by itself."""

    def __init__(self, new_cache: Callable[[], KVCache], budget_bytes: int) -> None:
        self._new_cache = new_cache
        self.budget_bytes = budget_bytes
        self._prompts: OrderedDict[Key, CachedPrompt] = OrderedDict()

    def n_uncached(self, document: str, prompt: FimPrompt) -> int:
        """How many tokens of the prompt would have to be computed."""
        cached = self._prompts.get((document, prompt.order))
        return len(prompt.ids) - (cached.n_matching(prompt.ids) if cached else 0)

    def take(self, document: str, prompt: FimPrompt) -> CachedPrompt:
        """The cached part of the prompt, cut to what agrees with it and marked as used last.

        At least one token is always left to compute, for the answer needs the logits after it.
        """
        key = (document, prompt.order)
        cached = self._prompts.pop(key, None) or CachedPrompt(self._new_cache())
        self._prompts[key] = cached
        cached.truncate(min(cached.n_matching(prompt.ids), len(prompt.ids) - 1))
        return cached

    def trim(self) -> None:
        """Evicts least recently used prompts until the budget holds, but never the last one used."""
        while len(self._prompts) > 1 and self.n_bytes > self.budget_bytes:
            self._prompts.popitem(last=False)

    def forget(self, document: str) -> None:
        """Drops every prompt of the document."""
        for key in [key for key in self._prompts if key[0] == document]:
            del self._prompts[key]

    def clear(self) -> None:
        """Drops everything."""
        self._prompts.clear()

    @property
    def n_bytes(self) -> int:
        """Bytes that all caches hold."""
        return sum(cached.kv.n_bytes for cached in self._prompts.values())
