"""How far two sequences agree, at the speed of comparing slices."""

from __future__ import annotations

from collections.abc import Sequence


def n_common(first: Sequence[object], second: Sequence[object]) -> int:
    """Length of the longest common beginning of two sequences of one type (str, list or tuple)."""
    low, high = 0, min(len(first), len(second))
    if first[:high] == second[:high]:
        return high
    while high - low > 1:  # first[:low] agrees, first[:high] does not
        middle = (low + high) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle
    return low


def n_common_end(first: Sequence[object], second: Sequence[object], limit: int) -> int:
    """Length of the longest common end, at most `limit`."""
    low, high = 0, min(len(first), len(second), limit) + 1  # an end of `low` agrees, one of `high` does not
    while high - low > 1:
        middle = (low + high) // 2
        if first[len(first) - middle : len(first) - low] == second[len(second) - middle : len(second) - low]:
            low = middle
        else:
            high = middle
    return low
