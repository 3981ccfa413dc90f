"""Drafts are what followed before; speculative decoding writes what plain decoding writes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.speculate import FIRST_DRAFT, MAX_DRAFT, PromptLookup

# ids, others, draft
CASES = [
    ((1, 2, 3, 4, 5, 1, 2), (), (3, 4, 5, 1)),
    ((1, 2, 3, 9, 1, 2, 4, 9, 1, 2), (), (4, 9, 1, 2)),  # the later of two equal matches
    ((7, 1, 2, 3, 8, 1, 2, 4, 7, 1, 2), (), (3, 8, 1, 2)),  # the longer of two
    ((1, 2, 3), (), ()),
    ((5, 2, 3, 2), (), ()),  # one token is no match
    ((), (), ()),
    ((1, 2), [(1, 2, 3, 4)], (3, 4)),  # not across the border to the next text
    ((1, 2), [(1, 2, 8), (1, 2, 9)], (9,)),
]


@pytest.mark.parametrize(("ids", "others", "draft"), CASES)
def test_the_draft_is_what_followed_the_longest_latest_match(ids, others, draft) -> None:
    assert PromptLookup(ids, others, 10).draft(10) == draft


def naive(ids: tuple[int, ...]) -> tuple[int, ...]:
    best, place = 1, None
    for end in range(1, len(ids)):
        n = 0
        while n < min(end, 8) and ids[end - 1 - n] == ids[-1 - n]:
            n += 1
        if n >= max(best, 2):
            best, place = n, end
    return ids[place : place + FIRST_DRAFT] if place is not None else ()


@given(st.lists(st.integers(0, 2), max_size=40).map(tuple), st.lists(st.integers(0, 2), max_size=5))
def test_drafts_equal_a_search_by_hand(ids, more) -> None:
    lookup = PromptLookup(ids, [], len(more))
    for token_id in more:
        lookup.append(token_id)
    assert lookup.draft(10) == naive((*ids, *more))


def test_the_length_follows_acceptance() -> None:
    lookup = PromptLookup(tuple(range(50)) * 2, [], 10)
    assert len(lookup.draft(50)) == FIRST_DRAFT
    lookup.learn(FIRST_DRAFT, FIRST_DRAFT)
    assert len(lookup.draft(50)) == MAX_DRAFT
    lookup.learn(MAX_DRAFT, 0)
    assert len(lookup.draft(50)) == 1
    assert lookup.draft(0) == ()
