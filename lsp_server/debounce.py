"""How long to wait before the model is asked, for editors that ask at every key.

A question whose answer comes after the next key was work for nobody. Where the model is faster than the typing there is
nothing to wait for; where it is slower, only a pause leaves time for an answer, and a pause is known by being longer than
the gaps of the typing. Between the two the wait grows with the ratio of both. Cached and remembered answers don't wait.
"""

from __future__ import annotations

import asyncio

_PAUSE_S = 1.0  # a longer gap is no typing
_MAX_WAIT_S = 0.3
_FAST = 0.8  # of a gap: an answer that takes less is often there before the next key
_WAIT_GAPS = 1.5  # a gap this much longer than usual is a pause
_GAP_FADING = 0.7  # on recorded gaps the last few keys tell most (make bench-debounce)
_ANSWER_FADING = 0.2


class Rhythm:
    """Learns from the keys and from the answers; both fade, so that another model or another person is learned anew."""

    def __init__(self) -> None:
        self._last_key_s: float | None = None
        self._gap_s = 0.2  # between keys, until it is known
        self._answer_s = 0.0  # to an answer of the model's

    def key(self, at_s: float) -> None:
        """Takes in an edit."""
        if self._last_key_s is not None and 0 < (gap_s := at_s - self._last_key_s) < _PAUSE_S:
            self._gap_s += _GAP_FADING * (gap_s - self._gap_s)
        self._last_key_s = at_s

    def answer(self, took_s: float) -> None:
        """Takes in how long the model took."""
        self._answer_s = took_s if not self._answer_s else self._answer_s + _ANSWER_FADING * (took_s - self._answer_s)

    @property
    def wait_s(self) -> float:
        """Gives how long a pause must be for an answer to have its time."""
        share = min(max(self._answer_s / self._gap_s - _FAST, 0.0), 1.0)
        return min(share * _WAIT_GAPS * self._gap_s, _MAX_WAIT_S)


async def sleep_until(moment: float) -> None:
    """Waits for a moment of the running loop's clock; one that has passed costs no turn of the loop."""
    left_s = moment - asyncio.get_running_loop().time()
    if left_s > 0:
        await asyncio.sleep(left_s)
