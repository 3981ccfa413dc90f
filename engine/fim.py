"""Fill-in-the-middle prompts, in the two orders that BigCode's models were trained on.

PSM: `<fim_prefix>P<fim_suffix>S<fim_middle>`, the model writes M. SPM: `<fim_prefix><fim_suffix>S<fim_middle>P`, the
model writes on behind P. Prefix P and suffix S are tokenised separately, as in training. In SPM the text that grows
while a person types stands last, so a keystroke appends to a cached prompt instead of invalidating it.
Source: Bavarian et al. 2022, arXiv:2207.14255; Li et al. 2023, arXiv:2305.06161, section 4.2.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.api import Order
from engine.tokenizer import SpecialIds

N_SPECIAL = 3  # special tokens in either order
N_EDGES = 4  # grid steps per window: a window's edge moves once per quarter of it


@dataclass(frozen=True, slots=True)
class FimPrompt:
    """The ids of one prompt and the order in which they stand."""

    ids: tuple[int, ...]
    order: Order


def build_prompt(prefix_ids: list[int], suffix_ids: list[int], order: Order, special: SpecialIds) -> FimPrompt:
    """Puts both parts into the order asked for, which is not `auto`."""
    if order is Order.SPM:
        ids = (special.fim_prefix, special.fim_suffix, *suffix_ids, special.fim_middle, *prefix_ids)
    else:
        ids = (special.fim_prefix, *prefix_ids, special.fim_suffix, *suffix_ids, special.fim_middle)
    return FimPrompt(ids, order)


def fit(prefix_ids: list[int], suffix_ids: list[int], n_tokens: int) -> tuple[list[int], list[int]]:
    """Cuts both parts so that a prompt of them has at most `n_tokens`, at edges that stand still.

    The prefix is cut at its start and the suffix at its end, in whole steps of a grid, so that a keystroke rarely moves
    an edge and a cached prompt stays good. Two thirds belong to the prefix; what one part does not need, the other gets.
    """
    room = max(n_tokens - N_SPECIAL, 0)
    if len(prefix_ids) + len(suffix_ids) <= room:
        return prefix_ids, suffix_ids
    step = max(room // (2 * N_EDGES), 1)
    n_free = room - _round_up(len(prefix_ids), step)
    suffix_ids = suffix_ids[: max(room // 3, n_free)]
    n_over = max(len(prefix_ids) + len(suffix_ids) - room, 0)
    return prefix_ids[_round_up(n_over, step) :], suffix_ids


def _round_up(n: int, step: int) -> int:
    return -(-n // step) * step
