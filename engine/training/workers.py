"""Spreading work over processes that each load what they need: a model is small, and threads share one interpreter."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_CHUNK = 25  # items between two signs of life; a worker loads the model anew for each chunk, in a fraction of a second


def chunks(items: Sequence[Item]) -> list[Sequence[Item]]:
    """The items, a few at a time."""
    return [items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK)]


def in_processes(work: Callable[[Item], Result], items: Iterable[Item], n_workers: int) -> Iterator[Result]:
    """The results in the items' order, as they come."""
    with ProcessPoolExecutor(n_workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(work, items)
