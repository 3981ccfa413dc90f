"""How much may be prefilled while nobody waits: for a battery's sake, the user may bound it."""

from __future__ import annotations

import time
from collections.abc import Callable


class Allowance:
    """So many tokens a minute; a bucket that holds one minute's worth and fills up steadily. None: no limit."""

    def __init__(self, tokens_per_min: int | None, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._tokens_per_min = tokens_per_min
        self._clock_s = clock_s
        self._n_left = float(tokens_per_min or 0)
        self._filled_s = clock_s()

    def take(self, n_tokens: int) -> bool:
        """Whether that many more may be computed now; they count as computed then."""
        if self._tokens_per_min is None:
            return True
        now_s = self._clock_s()
        self._n_left = min(self._n_left + (now_s - self._filled_s) / 60 * self._tokens_per_min, self._tokens_per_min)
        self._filled_s = now_s
        if n_tokens > self._n_left:
            return False
        self._n_left -= n_tokens
        return True
