"""Several alternatives of one prompt, decoded side by side: each is taken to its next pass in turn.

The weights are read once for all of them.
"""

from __future__ import annotations

from collections.abc import Generator

from engine.api import Chunk, Finish
from engine.jobs import Interrupted

Answering = Generator[Chunk | None, None, Finish]  # None before a pass; at the end, why the alternative ended


def side_by_side(alternatives: list[Answering], n_most: int) -> Answering:
    """Streams all of them mixed, `n_most` at a time; returns why the last one ended.

    Raises: Interrupted, once each that had begun has given out what it held back.
    """
    running, waiting = alternatives[:n_most], alternatives[n_most:]
    finish, stopped = Finish.END_OF_TEXT, None
    try:
        while running:
            for each in tuple(running):
                try:
                    while (chunk := next(each)) is not None:
                        yield chunk
                    continue
                except StopIteration as ended:
                    finish = ended.value if each is alternatives[-1] else finish
                except Interrupted as interrupted:
                    stopped, waiting = interrupted, []
                running.remove(each)
                running += waiting[:1]
                waiting = waiting[1:]
            yield None
    finally:
        for each in running:  # of one that failed the others end too
            each.close()
    if stopped is not None:
        raise stopped
    return finish
