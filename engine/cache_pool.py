"""Every cached prompt of every document, under one byte budget, the least recently used out first."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import Tensor

from engine.encoding import EncodedText
from engine.fim import FimPrompt, Ids
from engine.kv_cache import KVCache
from engine.matching import n_common

N_PROMPTS = 4  # kept per document: SPM and PSM here, and the places that the cursor came from
N_HEADS = 2
N_RELATED = 2  # other documents to look into
N_SPARED = 96  # tokens; a prompt that would lose more of its end is left whole, and a branch of it goes on


class CachedPrompt:
    """Token ids and their keys and values; the cache holds rows for exactly the ids."""

    def __init__(self, kv: KVCache) -> None:
        self.kv = kv
        self.ids: Ids = ()
        self._logits: dict[int, Tensor] = {}  # by the number of ids before them; (V,)

    def n_matching(self, ids: Ids) -> int:
        """How many of the ids, from the first on, are cached."""
        return n_common(self.ids, ids)

    def n_reusable(self, ids: Ids) -> int:
        """How many of them an answer need not compute: the last one too, if the logits after it were kept."""
        n = self.n_matching(ids)
        return n - 1 if n == len(ids) and n not in self._logits else n

    def logits_after(self, length: int) -> Tensor:
        """What comes after the first `length` tokens, where it was kept. Shapes: result (V,)."""
        return self._logits[length]

    def truncate(self, length: int) -> None:
        """Keeps the first `length` tokens only."""
        if length < len(self.ids):
            self.kv.truncate(length)
            self.ids = self.ids[:length]
            self._logits = {n: logits for n, logits in self._logits.items() if n <= length}

    def append(self, ids: Ids) -> None:
        """Notes the ids whose rows a finished forward pass has committed."""
        self.ids += ids
        assert len(self.ids) == self.kv.length

    def keep_logits(self, logits: Tensor) -> None:
        """Keeps what comes after the last token, in place of what was kept before."""
        self._logits = {len(self.ids): logits}

    def branch(self, length: int) -> CachedPrompt:
        """The first `length` tokens as a prompt of their own."""
        other = CachedPrompt(self.kv.branch(length))
        other.ids = self.ids[:length]
        other._logits = {n: logits for n, logits in self._logits.items() if n <= length}
        return other


@dataclass(slots=True)
class DocumentCache:
    """What the engine keeps of one document: prompts, the newest last, and how its windows were encoded last."""

    prompts: list[CachedPrompt] = field(default_factory=list)
    encoded: dict[str, EncodedText] = field(default_factory=dict)  # by part: the windows, as they were last
    heads: deque[str] = field(default_factory=lambda: deque(maxlen=N_HEADS))  # texts before the middles of PSM prompts
    asked: FimPrompt | None = None  # the last answer's prompt
    written: Ids = ()  # by the model, in the last answer
    n_background: int = 0  # rows computed while nobody waited, since the last answer

    def note_head(self, head: str) -> None:
        """Remembers where a PSM prompt's middle begins; it must stand still while a person types there."""
        if head in self.heads:
            self.heads.remove(head)
        self.heads.append(head)


class CachePool:
    """Owns the caches of all documents. What an answer is decoded with is never evicted."""

    def __init__(self, new_cache: Callable[[], KVCache], budget_bytes: int) -> None:
        self._new_cache = new_cache
        self.budget_bytes = budget_bytes
        self._documents: OrderedDict[str, DocumentCache] = OrderedDict()
        self._in_use: list[CachedPrompt] = []

    def document(self, name: str) -> DocumentCache:
        """The document's caches, marked as used last."""
        cache = self._documents.setdefault(name, DocumentCache())
        self._documents.move_to_end(name)
        return cache

    def holds(self, name: str, ids: Ids) -> bool:
        """Whether all of a prompt, or of its beginning, is cached."""
        cache = self._documents.get(name)
        return cache is not None and any(prompt.n_matching(ids) == len(ids) for prompt in cache.prompts)

    def n_uncached(self, name: str, ids: Ids) -> int:
        """How many tokens of a prompt an answer would have to compute."""
        cache = self._documents.get(name)
        return len(ids) - max((prompt.n_reusable(ids) for prompt in cache.prompts), default=0) if cache else len(ids)

    def related(self, name: str) -> list[Ids]:
        """Texts that the document's next lines may repeat, the most telling last: other documents, then the last answer."""
        others = [cache for other, cache in self._documents.items() if other != name][-N_RELATED:]
        return [*(part.ids for cache in others for part in cache.encoded.values()), self.document(name).written]

    def take(self, name: str, ids: Ids) -> CachedPrompt:
        """The cached beginning of a prompt, cut to what is reusable of it and marked as used last."""
        prompts = self.document(name).prompts
        best = max(prompts, key=lambda prompt: prompt.n_reusable(ids), default=None)
        n_reusable = best.n_reusable(ids) if best is not None else 0
        if best is not None and len(best.ids) - n_reusable <= min(N_SPARED, n_reusable):
            prompts.remove(best)
            best.truncate(n_reusable)
        elif best is not None and n_reusable:
            best = best.branch(n_reusable)
        else:
            best = CachedPrompt(self._new_cache())
        prompts.append(best)
        del prompts[:-N_PROMPTS]
        return best

    @contextmanager
    def in_use(self, prompt: CachedPrompt) -> Iterator[None]:
        """Keeps the prompt, which was taken, from being evicted for another."""
        self._in_use.append(prompt)
        try:
            yield
        finally:
            self._in_use.remove(prompt)

    def make_room(self, prompt: CachedPrompt, n_new: int) -> None:
        """Evicts what is least recently used until the prompt can grow by `n_new` tokens within the budget."""
        n_wanted = prompt.kv.n_bytes_to_reserve(n_new)
        while n_wanted and self.n_bytes + n_wanted > self.budget_bytes and self._evict_one(prompt):
            pass

    def forget(self, name: str) -> None:
        """Drops everything of a document."""
        self._documents.pop(name, None)

    def clear(self) -> None:
        """Drops every prompt that is not in use."""
        while self._evict_one():
            pass

    @property
    def n_bytes(self) -> int:
        """Bytes allocated by all caches, memory that several share counted once."""
        buffers: dict[int, int] = {}
        for cache in self._documents.values():
            for prompt in cache.prompts:
                buffers |= prompt.kv.buffers
        return sum(buffers.values())

    def _evict_one(self, spared: CachedPrompt | None = None) -> bool:
        """Drops the oldest prompt of the oldest document that has one; False where all that are left are spared or in use."""
        for name, cache in self._documents.items():
            for prompt in cache.prompts:
                if prompt is not spared and prompt not in self._in_use:
                    cache.prompts.remove(prompt)
                    if not cache.prompts:
                        del self._documents[name]
                    return True
        return False
