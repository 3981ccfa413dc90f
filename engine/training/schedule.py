"""Warm-up, stable, decay: a learning rate that never needs to know how long training will last.

The stable phase goes on for as long as there is time; a model to ship is a short decay branched off it.
Source: Hu et al. 2024, arXiv:2404.06395.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Schedule:
    """The factor on every learning rate; without `decay_start` the stable phase has no end."""

    warmup_steps: int = 100
    decay_start: int | None = None
    decay_steps: int = 0

    def factor(self, step: int) -> float:
        """0 to 1: linear up, flat, then linear down to 0 at the decay's end."""
        up = min((step + 1) / max(self.warmup_steps, 1), 1.0)
        if self.decay_start is None or step < self.decay_start:
            return up
        n_left = self.decay_start + self.decay_steps - step
        return up * max(n_left, 0) / (self.decay_steps + 1)
