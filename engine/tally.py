"""What an answer costs, while it is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from engine.api import Counters, Finish, Order, Window
from engine.jobs import Interrupted, Job

MIN_TELLING_TOKENS = 32


@dataclass(slots=True)
class Tally:
    """The counters of an answer while they are still counting, under the names that `Counters` gives them."""

    queue_ms: float
    order: Order = Order.SPM
    prompt: int = 0
    reused: int = 0
    prefilled: int = 0
    decoded: int = 0
    drafted: int = 0
    accepted: int = 0
    wasted: int = 0
    background: int = 0
    first_ms: float | None = None
    window: Window = Window.FULL
    finish: Finish = Finish.END_OF_TEXT

    def close(self, total_ms: float) -> Counters:
        """The counters as the answer carries them."""
        return Counters(**asdict(self), total_ms=total_ms)


@contextmanager
def interruptible(job: Job, tally: Tally, n_rows: int) -> Iterator[Callable[[], None]]:
    """What a forward pass calls before every layer, to hear of a cancel; rows of one that is given up count as wasted.

    Raises: Interrupted.
    """
    n_layers = 0

    def before_layer() -> None:
        nonlocal n_layers
        job.check()
        n_layers += 1

    try:
        yield before_layer
    except Interrupted:
        tally.wasted += n_rows if n_layers else 0
        raise


class Rate:
    """How fast prompts are prefilled, measured on the chunks that tell it: the recent ones count most."""

    def __init__(self) -> None:
        self.tokens_per_ms = float("inf")  # until it is known, nothing is too long

    def note(self, n_tokens: int, duration_s: float) -> None:
        """Takes in one chunk; a short one says more about overhead than about the rate."""
        if n_tokens < MIN_TELLING_TOKENS:
            return
        measured = n_tokens / max(duration_s * 1000, 1e-3)
        self.tokens_per_ms = measured if self.tokens_per_ms == float("inf") else 0.7 * self.tokens_per_ms + 0.3 * measured
