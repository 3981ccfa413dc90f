"""Completions to judge a model folder by: the shortest correct path, a greedy loop over model, cache and recall."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from engine.api import Order
from engine.attention import SdpaAttention
from engine.encoding import encode_all
from engine.fim import Ids, build_prompt, fit
from engine.heads import GPTBigCodeForCausalLM
from engine.healing import MAX_HEALED_TOKENS, Healing, take_back
from engine.kv_cache import KVCache
from engine.recall import Nearby, Recall, RecallWeights
from engine.sampler import Sampled, Sampler
from engine.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Answer:
    """What was written, the log-probability of each token that added to it, and that of writing just this and ending there.

    `total` is None where the text was cut off at the limit; `ends` tells how many characters stand at each token's end.
    """

    text: str
    logprobs: tuple[float, ...] = ()
    total: float | None = None
    ends: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """Tokens of prompt and completion together, tokens of the completion, and whether a line is all that is wanted."""

    n_context: int = 2048  # fewer where the model has fewer positions
    n_new: int = 48
    one_line: bool = True

    @property
    def n_room(self) -> int:
        """Tokens of the completion and of the word at the cursor, which is written again."""
        return self.n_new + MAX_HEALED_TOKENS


class Completer:
    """A model that fills holes, greedily, in either order or from the prefix alone.

    A prompt that comes twice in a row is prefilled once.
    """

    def __init__(
        self, model: GPTBigCodeForCausalLM, tokenizer: Tokenizer, limits: Limits, recall: RecallWeights | None = None
    ) -> None:
        self._model, self._tokenizer, self._limits, self._recall = model, tokenizer, limits, recall
        self._prefilled: tuple[Ids, KVCache, Tensor] | None = None

    @classmethod
    def from_folder(cls, folder: Path, limits: Limits) -> Completer:
        """The folder's model in float32, with the recall that lies beside it."""
        model = GPTBigCodeForCausalLM.from_pretrained(folder, dtype=torch.float32)
        model.transformer.attention = SdpaAttention(model.config)
        limits = replace(limits, n_context=min(limits.n_context, model.config.n_positions))
        return cls(model, Tokenizer.from_pretrained(folder), limits, RecallWeights.from_folder(folder))

    def fill(self, prefix: str, suffix: str, order: Order, *, with_recall: bool = True) -> Answer:
        """What stands between, given both sides."""
        words, is_spm = encode_all(prefix, self._tokenizer), order is Order.SPM
        before, healed = take_back(words, self._tokenizer) if is_spm else (words.ids, ())  # in PSM the cursor is marked
        prefix_ids, suffix_ids = fit(before, self._tokenizer.encode(suffix), self._limits.n_context - self._limits.n_room)
        prompt = build_prompt(prefix_ids, suffix_ids, order, self._tokenizer.special).ids
        recall = self._recalled(tuple(prefix_ids), tuple(suffix_ids)) if with_recall else None
        return self._answer(prompt, recall, Healing(healed, self._tokenizer))

    def go_on(self, prefix: str) -> Answer:
        """What comes next, given the prefix only, as plain text."""
        ids = tuple(self._tokenizer.encode(prefix)[self._limits.n_new - self._limits.n_context :])
        ids = ids or (self._tokenizer.special.end_of_text,)
        return self._answer(ids, self._recalled(ids, ()))

    def _recalled(self, prefix: Ids, suffix: Ids) -> Recall | None:
        if self._recall is None:
            return None
        limits = self._limits
        return Recall(
            Nearby(prefix, suffix, self._tokenizer, limits.n_new + MAX_HEALED_TOKENS, one_line=limits.one_line), self._recall
        )

    def _answer(self, prompt: Ids, recall: Recall | None, healing: Healing | None = None) -> Answer:
        written, logprobs, ends_at, total = b"", [], [], 0.0
        n_healed = len(healing.left) if healing else 0  # bytes that stand before the cursor already
        for sampled in self._tokens(prompt, Sampler(self._tokenizer.n_vocab, recall=recall, healing=healing)):
            token = self._tokenizer.token_bytes(sampled.token_id)
            total += sampled.logprob
            if token and n_healed:
                n_healed, token = max(n_healed - len(token), 0), token[n_healed:]
                if not token:
                    continue
            before_newline, newline, _ = token.partition(b"\n")
            ends = not token or bool(self._limits.one_line and newline)
            added = before_newline if ends else token
            written += added
            if added:
                logprobs.append(sampled.logprob)
                ends_at.append(len(written.decode("utf-8", "ignore")))
            if ends:
                return Answer(written.decode("utf-8", "replace"), tuple(logprobs), total, tuple(ends_at))
            if len(logprobs) == self._limits.n_new:
                break
        return Answer(written.decode("utf-8", "replace"), tuple(logprobs), ends=tuple(ends_at))

    def _tokens(self, prompt: Ids, sampler: Sampler) -> Iterator[Sampled]:
        cache, logits = self._prefill(prompt)
        for _ in range(self._limits.n_room):
            sampled = sampler(logits)
            yield sampled
            logits = self._forward((sampled.token_id,), cache)

    def _prefill(self, prompt: Ids) -> tuple[KVCache, Tensor]:
        if self._prefilled is None or self._prefilled[0] != prompt:
            cache = self._model.transformer.new_cache()
            self._prefilled = prompt, cache, self._forward(prompt, cache)
        _, cache, logits = self._prefilled
        cache.truncate(len(prompt))
        return cache, logits

    @torch.inference_mode()
    def _forward(self, ids: Ids, cache: KVCache) -> Tensor:
        """Shapes: result (V,)."""
        logits: Tensor = self._model(torch.tensor([ids]), kv_cache=cache, logits_to_keep=1).logits
        return logits[0, -1]
