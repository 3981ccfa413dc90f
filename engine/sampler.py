"""Choosing the next token from its logits.

The order of the processors is transformers': repetition penalty, temperature, top-k, top-p.
Sources: Keskar et al. 2019, arXiv:1909.05858 (penalty); Fan et al. 2018, arXiv:1805.04833 (top-k); Holtzman et al. 2019,
arXiv:1904.09751 (top-p).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from engine.healing import Healing
from engine.recall import Recall


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen; without `do_sample` only the repetition penalty changes what is likeliest.

    Raises: ValueError where a value cannot be.
    """

    do_sample: bool = False
    temperature: float = 1.0
    top_k: int | None = None  # None or 0: all
    top_p: float | None = None  # None or 1: all
    repetition_penalty: float = 1.0
    seed: int | None = None  # None: torch's own generator

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}, must be above 0; do_sample=False is greedy")
        if self.top_k is not None and self.top_k < 0:
            raise ValueError(f"top_k is {self.top_k}, must be at least 1, or 0 for all tokens")
        if self.top_p is not None and not 0 <= self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}, must be between 0 and 1")
        if self.repetition_penalty <= 0:
            raise ValueError(f"repetition_penalty is {self.repetition_penalty}, must be above 0")

    def generator(self, device: torch.device) -> torch.Generator | None:
        """What a sequence of draws shares."""
        return None if self.seed is None else torch.Generator(device).manual_seed(self.seed)

    def process(self, logits: Tensor, ids: Tensor) -> Tensor:
        """The logits as they are chosen from, -inf where a token is out. Shapes: logits and result (B, V), ids (B, S)."""
        if self.repetition_penalty != 1.0:
            logits = penalise_repetition(logits, ids, self.repetition_penalty)
        if not self.do_sample:
            return logits
        logits = logits / self.temperature
        if self.top_k:
            logits = keep_top_k(logits, self.top_k)
        if self.top_p is not None and self.top_p < 1:
            logits = keep_top_p(logits, self.top_p)
        return logits

    def choose(self, logits: Tensor, generator: torch.Generator | None) -> Tensor:
        """One token per row of processed logits. Shapes: logits (B, V), result (B,)."""
        return draw(logits.softmax(-1), generator) if self.do_sample else logits.argmax(-1)


def penalise_repetition(logits: Tensor, ids: Tensor, penalty: float) -> Tensor:
    """Makes tokens that occur in `ids` less likely, or more for a penalty below 1."""
    seen = logits.gather(-1, ids)
    return logits.scatter(-1, ids, torch.where(seen < 0, seen * penalty, seen / penalty))


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Keeps the k likeliest tokens, and those that tie with the last of them."""
    last = logits.topk(min(k, logits.shape[-1])).values[..., -1:]
    return logits.masked_fill(logits < last, -torch.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Keeps the fewest likeliest tokens whose probabilities reach p, at least one."""
    ascending, indexes = logits.sort()
    out = ascending.softmax(-1).cumsum(-1) <= 1 - p  # (B, V): the tail that together is not needed
    out[..., -1].fill_(False)
    return logits.masked_fill(out.scatter(-1, indexes, out), -torch.inf)


def draw(probs: Tensor, generator: torch.Generator | None) -> Tensor:
    """One index per row by its probability, as `torch.multinomial` draws it, less its checks, which wait for the device."""
    waits = torch.empty_like(probs).exponential_(generator=generator)
    return (probs / waits).argmax(-1)


@dataclass(frozen=True, slots=True)
class Sampled:
    """A token and its log-probability among the ids that were allowed, before any temperature."""

    token_id: int
    logprob: float


class Sampler:
    """Greedy at temperature 0, multinomial above; ids from `n_vocab` on are padding and never chosen.

    With a `recall`, the model's distribution is mixed with what stands nearby; with a `healing`, what is picked begins with the
    word at the cursor. Both are told each pick.
    """

    def __init__(
        self,
        n_vocab: int,
        temperature: float = 0.0,
        seed: int | None = None,
        *,
        recall: Recall | None = None,
        healing: Healing | None = None,
    ) -> None:
        self.n_vocab = n_vocab
        self.temperature = temperature
        self._recall, self._healing = recall, healing
        self._generator = torch.Generator()
        if seed is not None:
            self._generator.manual_seed(seed)

    def __call__(self, logits: Tensor, rank: int = 0) -> Sampled:
        """Picks from one row; `rank` 0 is the usual pick, k the k-th likeliest other token, whatever the temperature.

        Shapes: logits (V,).
        """
        logits = logits[: self.n_vocab].float()
        logprobs = (logits if self._healing is None else self._healing.constrain(logits)).log_softmax(-1)
        if self._recall is not None:
            logprobs = self._recall.mix(logprobs, ahead=self._healing.left if self._healing else b"")
        token_id = self._pick(logprobs, rank)
        for told in (self._recall, self._healing):
            if told is not None:
                told.take(token_id)
        return Sampled(token_id, float(logprobs[token_id]))

    @property
    def is_plain(self) -> bool:
        """Whether the next pick follows from logits and temperature alone, so that a device can make it."""
        return self._recall is None and not (self._healing and self._healing.left)

    def _pick(self, logprobs: Tensor, rank: int) -> int:
        if rank:
            n_possible = int(logprobs.isfinite().sum())
            return int(logprobs.topk(min(rank + 1, n_possible)).indices[-1])
        if self.temperature == 0:
            return int(logprobs.argmax())
        return int(draw((logprobs / self.temperature).softmax(-1).cpu(), self._generator))
