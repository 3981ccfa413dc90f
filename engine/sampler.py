"""Choosing the next token from its logits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Sampled:
    """A token and its log-probability under the unmodified distribution of the usable ids."""

    token_id: int
    logprob: float


class Sampler:
    """Greedy at temperature 0, multinomial above; ids from `n_vocab` on are padding and never chosen."""

    def __init__(self, n_vocab: int, temperature: float = 0.0, seed: int | None = None) -> None:
        self.n_vocab = n_vocab
        self.temperature = temperature
        self._generator = torch.Generator()
        if seed is not None:
            self._generator.manual_seed(seed)

    def __call__(self, logits: Tensor, rank: int = 0) -> Sampled:
        """Picks from one row; `rank` 0 is the usual pick, k the k-th likeliest other token, whatever the temperature.

        Shapes: logits (V,).
        """
        logprobs = logits[: self.n_vocab].float().log_softmax(-1)
        if rank:
            token = logprobs.topk(rank + 1).indices[rank]
        elif self.temperature == 0:
            token = logprobs.argmax()
        else:
            probs = (logprobs / self.temperature).softmax(-1).cpu()
            token = torch.multinomial(probs, 1, generator=self._generator)[0]
        token_id = int(token)
        return Sampled(token_id, float(logprobs[token_id]))
