"""Which prompt a request becomes: its ids, their order, and how much of the text they hold.

SPM, `<fim_prefix><fim_suffix>S<fim_middle>P`, grows at its end while a person types. So does PSM, if the place where the
middle begins stands still: `<fim_prefix>H<fim_suffix>S<fim_middle>R`, where the prefix P = H + R and R begins at a line's
start, is a prompt of a middle that is already half written. The two differ in what a jump of the cursor costs: in PSM,
where `<fim_prefix>H` is kept current in idle time, it is S and R; in SPM it is S and P. `auto` takes what costs less now.

The full window is used wherever what is not cached of it can be prefilled in time at the measured rate; otherwise a short
one around the cursor that can, with a cache of its own.
"""

from __future__ import annotations

from dataclasses import replace

from engine.api import Order, Request, Window
from engine.cache_pool import CachePool
from engine.encoding import EncodedText, encode
from engine.fim import N_SPECIAL, FimPrompt, build_prompt, fit
from engine.healing import MAX_HEALED_TOKENS, take_back
from engine.tokenizer import Tokenizer

PREFILL_SHARE = 0.5  # of the deadline; the rest is for decoding
MIN_SHORT_TOKENS = 64


class Planner:
    """Makes prompts; encodes each document's windows at the cost of what changed in them."""

    def __init__(self, tokenizer: Tokenizer, pool: CachePool, n_positions: int) -> None:
        self._tokenizer = tokenizer
        self._pool = pool
        self._n_positions = n_positions

    def plan(self, request: Request, tokens_per_ms: float, left_ms: float | None) -> tuple[FimPrompt, Window]:
        """The prompt for a request of which `left_ms` are left, None where it may take any time, and how much it holds."""
        n_tokens = self._n_tokens(request)
        full = self._cheapest(request, n_tokens)
        if left_ms is None:
            return full, Window.FULL
        n_in_time = int(min(tokens_per_ms * left_ms * PREFILL_SHARE, self._n_positions))
        if self._pool.n_uncached(request.document, full.ids) <= max(n_in_time, MIN_SHORT_TOKENS):
            return full, Window.FULL
        # A power of two: the rate is measured anew all the time, and must not move the window's edge.
        n_short = max(1 << max(n_in_time, 1).bit_length() - 1, MIN_SHORT_TOKENS)
        return self._cheapest(request, min(n_short + N_SPECIAL, n_tokens)), Window.SHORT

    def background_prompts(self, request: Request) -> list[FimPrompt]:
        """What to have cached while the cursor rests: the full prompt, and the beginning that a jump's prompt will share."""
        n_tokens = self._n_tokens(request)
        prompts = [self._cheapest(request, n_tokens)]
        if request.order is not Order.SPM:
            head = self._encoded(request.document, "head", request.prefix[: line_start(request.prefix)])
            fitted, _ = fit(head.ids, (), n_tokens)
            prompts.append(FimPrompt((self._tokenizer.special.fim_prefix, *fitted), Order.PSM))
        return prompts

    def _n_tokens(self, request: Request) -> int:
        """Positions for the prompt: what is left of them by what is written, anew or again."""
        return self._n_positions - request.max_tokens - MAX_HEALED_TOKENS

    def _cheapest(self, request: Request, n_tokens: int) -> FimPrompt:
        """In the request's order, or in whichever has fewer uncached tokens, SPM where they are equal."""
        if request.order is Order.SPM:
            return self._spm(request, n_tokens)
        prompts: dict[int | None, FimPrompt] = {}  # by where a PSM middle begins; None: SPM
        if request.order is Order.PSM:
            splits = {len(request.prefix)}
        else:
            splits = {line_start(request.prefix), *self._splits(request)}
            prompts[None] = self._spm(request, n_tokens)
        prompts |= {split: self._psm(request, split, n_tokens) for split in splits}
        cheapest = min(prompts, key=lambda split: self._pool.n_uncached(request.document, prompts[split].ids))
        if cheapest is not None:
            self._pool.document(request.document).note_head(request.prefix[:cheapest])
        return prompts[cheapest]

    def _splits(self, request: Request) -> list[int]:
        """Where the middles of earlier prompts began, as far as all before is as it was."""
        heads = self._pool.document(request.document).heads
        return [len(head) for head in heads if request.prefix.startswith(head)]

    def _spm(self, request: Request, n_tokens: int) -> FimPrompt:
        prefix, healed = take_back(self._encoded(request.document, "prefix", request.prefix), self._tokenizer)
        suffix = self._encoded(request.document, "suffix", request.suffix)
        prompt = build_prompt(*fit(prefix, suffix.ids, n_tokens), Order.SPM, self._tokenizer.special)
        return replace(prompt, healed=healed)

    def _psm(self, request: Request, split: int, n_tokens: int) -> FimPrompt:
        """With the prefix's text from `split` on as the beginning of the middle."""
        head = self._encoded(request.document, "head", request.prefix[:split])
        rest, healed = take_back(self._encoded(request.document, "rest", request.prefix[split:]), self._tokenizer)
        suffix = self._encoded(request.document, "suffix", request.suffix)
        prefix_ids, suffix_ids = fit(head.ids + rest, suffix.ids, n_tokens)
        n_head = max(len(prefix_ids) - len(rest), 0)
        prompt = build_prompt(prefix_ids[:n_head], suffix_ids, Order.PSM, self._tokenizer.special)
        return FimPrompt((*prompt.ids, *prefix_ids[n_head:]), Order.PSM, healed)

    def _encoded(self, document: str, part: str, text: str) -> EncodedText:
        encoded = self._pool.document(document).encoded
        encoded[part] = encode(text, self._tokenizer, encoded.get(part))
        return encoded[part]


def line_start(prefix: str) -> int:
    """Where the cursor's line begins."""
    return prefix.rfind("\n") + 1
