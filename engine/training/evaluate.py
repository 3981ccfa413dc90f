"""What a model is worth: bits per byte and exact match on held-out code, with intervals, as one JSON object.

Completions come from the shortest correct path, a greedy loop over the model and its cache, so that the figures hang on
nothing but the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from engine.api import Order
from engine.fim import build_prompt, fit
from engine.heads import GPTBigCodeForCausalLM
from engine.tokenizer import Tokenizer
from engine.training.holes import LineHole, copy_from_prefix

_MAX_NEW = 48  # tokens: longer lines are counted as missed
_N_RESAMPLES = 2000

Complete = Callable[[LineHole], str]


@dataclass(frozen=True, slots=True)
class Matches:
    """Which holes each way of completing got exactly right. Each row is one bool per hole, in the same order."""

    kinds: tuple[str, ...]
    right: dict[str, NDArray[np.bool_]]

    def summary(self, seed: int = 0) -> dict[str, object]:
        """Fractions, their 95 % bootstrap intervals, those of paired differences to `spm`, and fractions by kind."""
        n_holes = len(self.kinds)
        drawn = np.random.default_rng(seed).integers(n_holes, size=(_N_RESAMPLES, n_holes))
        means = {name: right[drawn].mean(axis=1) for name, right in self.right.items()}
        kinds = np.array(self.kinds)
        return {
            "n_holes": n_holes,
            "exact_match": {name: round(float(right.mean()), 4) for name, right in self.right.items()},
            "exact_match_interval": {name: _interval(mean) for name, mean in means.items()},
            "spm_minus": {name: _interval(means["spm"] - mean) for name, mean in means.items() if name != "spm"},
            "exact_match_by_kind": {
                name: {str(kind): round(float(right[kinds == kind].mean()), 4) for kind in sorted(set(self.kinds))}
                for name, right in self.right.items()
            },
        }


class Completer:
    """A model that completes one line, greedily, in either order or from the prefix alone."""

    def __init__(self, model: GPTBigCodeForCausalLM, tokenizer: Tokenizer, n_context: int) -> None:
        self._model, self._tokenizer, self._n_context = model, tokenizer, n_context

    def fill(self, hole: LineHole, order: Order) -> str:
        """The rest of the line, given both sides."""
        encode = self._tokenizer.encode
        parts = fit(encode(hole.prefix), encode(hole.suffix), self._n_context - _MAX_NEW)
        return self._line(build_prompt(*parts, order, self._tokenizer.special).ids)

    def go_on(self, hole: LineHole) -> str:
        """The rest of the line, given the prefix only, as plain text."""
        return self._line(tuple(self._tokenizer.encode(hole.prefix)[_MAX_NEW - self._n_context :]))

    def _line(self, ids: tuple[int, ...]) -> str:
        return b"".join(self._bytes(ids)).partition(b"\n")[0].decode("utf-8", "replace")

    @torch.inference_mode()
    def _bytes(self, ids: Sequence[int]) -> Iterator[bytes]:
        cache = self._model.transformer.new_cache()
        for _ in range(_MAX_NEW):
            logits = self._model(torch.tensor([ids]), kv_cache=cache, logits_to_keep=1).logits
            token_id = int(logits[0, -1].argmax())
            if token_id == self._tokenizer.special.end_of_text:
                return
            token = self._tokenizer.token_bytes(token_id)
            yield token
            if b"\n" in token:
                return
            ids = (token_id,)


def match_lines(holes: Sequence[LineHole], completer: Completer, on_hole: Callable[[], None]) -> Matches:
    """Completes every hole in every way; right is what equals the line's rest but for blanks at its end."""
    ways: dict[str, Complete] = {
        "spm": lambda hole: completer.fill(hole, Order.SPM),
        "psm": lambda hole: completer.fill(hole, Order.PSM),
        "prefix_only": completer.go_on,
        "copier": lambda hole: copy_from_prefix(hole.prefix),
    }
    right: dict[str, list[bool]] = {name: [] for name in ways}
    for hole in holes:
        for name, complete in ways.items():
            right[name].append(complete(hole).rstrip() == hole.middle.rstrip())
        on_hole()
    return Matches(tuple(hole.kind for hole in holes), {name: np.array(row) for name, row in right.items()})


def _interval(means: NDArray[np.float64]) -> list[float]:
    return [round(float(bound), 4) for bound in np.percentile(means, (2.5, 97.5))]
