"""One pass per token for all that is decoded at the time: alternatives of one request, requests of several windows.

Source: Yu et al. 2022, "Orca: A Distributed Serving System for Transformer-Based Generative Models" (scheduling by
iterations, also called continuous batching).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager

from engine.fim import Ids
from engine.sampler import Sampled
from engine.slots import Decoding
from engine.steps import Row, Stepper


class Lockstep:
    """Where sequences meet for their passes, none knowing of another.

    Each says what it feeds and gives way; when it goes on, all who are under way have said so too. The first to go on runs the
    pass for all, so a pass that fails is that one's failure: the others have theirs without it.
    """

    def __init__(self, stepper: Stepper) -> None:
        self._stepper = stepper
        self._fed: dict[Decoding, Ids] = {}
        self._rows: dict[Decoding, Row] = {}  # of the last pass, not looked at yet

    @contextmanager
    def joined(self, decoding: Decoding) -> Iterator[None]:
        """For the time in which the sequence is decoded; at the end its cache holds every token that was fed and right."""
        try:
            yield
        finally:
            self._fed.pop(decoding, None)
            self._rows.pop(decoding, None)
            self._stepper.leave(decoding)

    def step(self, decoding: Decoding, ids: Ids) -> Generator[None, None, tuple[list[Sampled], int]]:
        """Feeds the last token, with a draft behind it that a pass may cut, and gives way once; returns what plain decoding
        would sample, and how much of the draft was fed.

        Raises: Interrupted.
        """
        decoding.job.check()
        self._fed[decoding] = ids
        yield
        if decoding in self._fed:
            decoding.job.check()  # whoever ran the last pass may have heard of a cancel in it
            if len(self._fed) == 1:
                taken = self._stepper.step(decoding, ids)
                self._fed.clear()
                return taken
            self._rows = self._stepper.step_together({each: fed[0] for each, fed in self._fed.items()})
            self._fed.clear()
        return [self._rows.pop(decoding).pick(decoding.sampler)], 0
