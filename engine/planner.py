"""Which prompt a request becomes: its ids, their order, and how much of the text they hold.

The full window is used wherever what is not cached of it can be prefilled in time at the measured rate; otherwise a short
one around the cursor that can, with a cache of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.api import Order, Request, Window
from engine.cache_pool import CachePool
from engine.encoding import EncodedText, encode
from engine.fim import N_SPECIAL, FimPrompt, build_prompt, fit
from engine.tokenizer import Tokenizer

PREFILL_SHARE = 0.5  # of the deadline; the rest is for decoding
MIN_SHORT_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Plan:
    """A prompt, and how much of the request's text it holds."""

    prompt: FimPrompt
    window: Window = Window.FULL


class Planner:
    """Makes prompts; encodes each document's windows at the cost of what changed in them."""

    def __init__(self, tokenizer: Tokenizer, pool: CachePool, n_positions: int) -> None:
        self._tokenizer = tokenizer
        self._pool = pool
        self._n_positions = n_positions

    def plan(self, request: Request, tokens_per_ms: float, left_ms: float | None) -> Plan:
        """The prompt for a request of which `left_ms` are left, None where it may take any time."""
        prefix, suffix = self._encode(request)
        n_tokens = self._n_positions - request.max_tokens
        full = self._cheapest(request, prefix, suffix, n_tokens)
        if left_ms is None:
            return Plan(full)
        n_in_time = int(min(tokens_per_ms * left_ms * PREFILL_SHARE, self._n_positions))
        if self._pool.n_uncached(request.document, full.ids) <= max(n_in_time, MIN_SHORT_TOKENS):
            return Plan(full)
        # A power of two: the rate is measured anew all the time, and must not move the window's edge.
        n_short = max(1 << max(n_in_time, 1).bit_length() - 1, MIN_SHORT_TOKENS)
        short = self._cheapest(request, prefix, suffix, min(n_short + N_SPECIAL, n_tokens))
        return Plan(short, Window.SHORT)

    def background_prompts(self, request: Request) -> list[FimPrompt]:
        """What to have cached for the request's place: the prompt in SPM, where typing goes on, and the beginning that
        PSM needs, so that a jump of the cursor costs the suffix there and not the prefix too.
        """
        prefix, suffix = self._encode(request)
        fitted = fit(prefix.ids, suffix.ids, self._n_positions - request.max_tokens)
        special = self._tokenizer.special
        prompts = []
        if request.order is not Order.PSM:
            prompts.append(build_prompt(*fitted, Order.SPM, special))
        if request.order is not Order.SPM:
            prompts.append(FimPrompt((special.fim_prefix, *fitted[0]), Order.PSM))
        return prompts

    def _encode(self, request: Request) -> tuple[EncodedText, EncodedText]:
        cache = self._pool.document(request.document)
        cache.prefix = encode(request.prefix, self._tokenizer, cache.prefix)
        cache.suffix = encode(request.suffix, self._tokenizer, cache.suffix)
        return cache.prefix, cache.suffix

    def _cheapest(self, request: Request, prefix: EncodedText, suffix: EncodedText, n_tokens: int) -> FimPrompt:
        """In the request's order, or in whichever has fewer uncached tokens, SPM where they are equal."""
        fitted = fit(prefix.ids, suffix.ids, n_tokens)
        orders = (Order.SPM, Order.PSM) if request.order is Order.AUTO else (request.order,)
        prompts = [build_prompt(*fitted, order, self._tokenizer.special) for order in orders]
        return min(prompts, key=lambda prompt: self._pool.n_uncached(request.document, prompt.ids))
