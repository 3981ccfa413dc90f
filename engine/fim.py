"""Fill-in-the-middle prompts, in the two orders that BigCode's models were trained on.

PSM: `<fim_prefix>P<fim_suffix>S<fim_middle>`, the model writes M. SPM: `<fim_prefix><fim_suffix>S<fim_middle>P`, the
model writes on behind P. Prefix P and suffix S are tokenised separately, as in training. In SPM the text that grows
while a person types stands last, so a keystroke appends to a cached prompt instead of invalidating it.
Source: Bavarian et al. 2022, arXiv:2207.14255; Li et al. 2023, arXiv:2305.06161, section 4.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.api import Order
from engine.tokenizer import SpecialIds

N_SPECIAL = 3  # special tokens in either order
N_STEPS = 4  # grid steps per window: a window's edge moves once per quarter of it
PREFIX_SHARE = 0.75  # names, types and indentation stand before the cursor; the suffix mostly says where to stop


CHARS_PER_TOKEN = 3  # of source code, on the low side: windows of text should fill the positions, not burst them

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FimPrompt:
    """The ids of one prompt, the order in which they stand, and the word that was taken back from its end."""

    ids: Ids
    order: Order
    healed: Ids = ()  # what is written begins with the text of these


def max_chars(n_positions: int) -> int:
    """Code points of prefix and suffix together that are worth sending to a model of so many positions."""
    return CHARS_PER_TOKEN * n_positions


def build_prompt(prefix_ids: Sequence[int], suffix_ids: Sequence[int], order: Order, special: SpecialIds) -> FimPrompt:
    """Puts both parts into the order asked for, which is not `auto`."""
    if order is Order.SPM:
        ids = (special.fim_prefix, special.fim_suffix, *suffix_ids, special.fim_middle, *prefix_ids)
    else:
        ids = (special.fim_prefix, *prefix_ids, special.fim_suffix, *suffix_ids, special.fim_middle)
    return FimPrompt(ids, order)


def fit(prefix_ids: Sequence[int], suffix_ids: Sequence[int], n_tokens: int) -> tuple[Sequence[int], Sequence[int]]:
    """Cuts both parts so that a prompt of them has at most `n_tokens`, at edges that stand still.

    The prefix is cut at its start, in whole steps of a grid, the suffix at its end, and neither looks at the other: while a
    person types, no edge moves for a quarter of a window, and what is cached of one part serves with any other.
    """
    room = max(n_tokens - N_SPECIAL, 0)
    n_prefix = int(room * PREFIX_SHARE)
    step = max(n_prefix // N_STEPS, 1)
    n_over = max(len(prefix_ids) - n_prefix, 0)
    return prefix_ids[-(-n_over // step) * step :], suffix_ids[: room - n_prefix]
