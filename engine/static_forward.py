"""How the rows of a pass of a fixed shape go through the model, with a static cache: by torch's own operators.

The one by kernels of our own is in `fused_forward`; this is its reference, and serves wherever that cannot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from engine.appending import AppendingAttention, NewRows
from engine.heads import GPTBigCodeForCausalLM

SMALLEST_WAIT = 1e-30  # keeps the logarithm finite, so that temperature 0 times it is 0


class StaticForward(Protocol):
    """A forward pass that reads no number on the host, so that it can be recorded."""

    name: str

    def __call__(self, ids: Tensor, kv: Tensor, rows: NewRows) -> Tensor:
        """Scores after each row, in float32, padding ids left out; the rows' keys and values are put into the cache.

        Shapes: ids (B, T), below 0 where a row is never taken; kv (L, B, C, K, 2 * D), written in place; result (B, T, V).
        """
        ...

    def judge(self, logits: Tensor, ids: Tensor, temperature: Tensor, n_forced: Tensor) -> Tensor:
        """What is picked behind each row, at temperature 0 the likeliest, and how many rows are taken: the first one, and of
        the draft behind it what the model picked itself, or `n_forced` rows where that is more.

        Shapes: logits (B, T, V); ids (B, T); temperature (B,); n_forced (); result (B, 2 * T + 1) float32, in which every id
        is exact: picks, their log-probabilities, rows taken.
        """
        ...


class OperatorForward:
    """The model's own blocks, with an attention that appends."""

    name = "operators"

    def __init__(self, model: GPTBigCodeForCausalLM, attention: AppendingAttention) -> None:
        self._model, self._attention = model, attention

    def __call__(self, ids: Tensor, kv: Tensor, rows: NewRows) -> Tensor:
        """See `StaticForward`."""
        model, transformer = self._model, self._model.transformer
        positions = rows.places.clamp(max=model.config.n_positions - 1)  # of rows that are never taken
        h = transformer.wte(ids.clamp(min=0)) + transformer.wpe(positions)
        attend = _Appended(self._attention, kv, rows)
        for block in transformer.h:
            h = block(h, attend, None, None)
        logits: Tensor = model.lm_head(transformer.ln_f(h))
        return logits[..., : model.n_used_ids].float()

    def judge(self, logits: Tensor, ids: Tensor, temperature: Tensor, n_forced: Tensor) -> Tensor:
        """See `StaticForward`."""
        picked = _pick(logits, temperature)
        logprobs = logits.gather(-1, picked[..., None])[..., 0] - logits.logsumexp(-1)
        n_agreed = (picked[:, :-1] == ids[:, 1:]).long().cumprod(-1).sum(-1)
        n_taken = torch.maximum(n_agreed + 1, n_forced)  # (B,)
        return torch.cat((picked, logprobs, n_taken[:, None]), dim=-1)


def _pick(logits: Tensor, temperature: Tensor) -> Tensor:
    """The likeliest at temperature 0, else one by its probability: with Gumbel's noise the two are one formula.

    Source: Gumbel 1954. Shapes: logits (B, T, V), temperature (B,), result (B, T).
    """
    waits = torch.empty_like(logits).exponential_().clamp_(min=SMALLEST_WAIT)
    return (logits - temperature[:, None, None] * waits.log_()).argmax(-1)


@dataclass(frozen=True, slots=True)
class _Appended:
    """Attention as a layer calls it, for one pass: what it is handed are the new rows alone."""

    attention: AppendingAttention
    kv: Tensor  # (L, B, C, K, 2 * D)
    rows: NewRows
    name: str = "appended"

    def prepare(self, n_new: int, n_cached: int, keep: Tensor | None, like: Tensor) -> Tensor | None:
        """Nothing: the rows know."""
        return None

    def __call__(self, q: Tensor, kv: Tensor, mask: Tensor | None, *, layer_idx: int, dropout_p: float) -> Tensor:
        """See `AppendingAttention.append`."""
        return self.attention.append(q, kv, self.kv[layer_idx], self.rows, layer_idx=layer_idx)
