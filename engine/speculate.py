"""Drafts for speculative decoding by prompt lookup: what followed the last tokens where they stood before.

Source: Saxena 2023, "Prompt Lookup Decoding"; verified as in Leviathan et al. 2023, arXiv:2211.17192, at temperature 0.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from engine.fim import Ids

MIN_MATCH, MAX_MATCH = 2, 8  # tokens that must agree, and beyond which more agreement says no more
FIRST_DRAFT, MAX_DRAFT = 4, 8  # tokens


class PromptLookup:
    """Proposes the continuation of the longest, then latest, earlier occurrence of the last tokens.

    `ids` is the text being continued; `others` are texts that it may repeat, the most telling last.
    """

    def __init__(self, ids: Ids, others: Iterable[Ids], n_tokens: int) -> None:
        before = [token_id for other in others for token_id in (*other, -1)]  # -1 agrees with nothing
        self._ids = np.empty(len(before) + len(ids) + n_tokens, dtype=np.int64)
        self._n = len(before) + len(ids)
        self._ids[: self._n] = [*before, *ids]
        self._n_draft = FIRST_DRAFT

    def append(self, token_id: int) -> None:
        """Notes the next token of the text."""
        self._ids[self._n] = token_id
        self._n += 1

    def draft(self, n_most: int) -> Ids:
        """The tokens that may come next, at most `n_most`; none where nothing agrees."""
        ids = self._ids[: self._n]
        if self._n < MIN_MATCH:
            return ()
        places, n_agreed = np.flatnonzero(ids[:-1] == ids[-1]), 1  # where the last token stood before
        while n_agreed < min(MAX_MATCH, self._n):
            longer = places[places >= n_agreed]
            longer = longer[ids[longer - n_agreed] == ids[-1 - n_agreed]]
            if not len(longer):
                break
            places, n_agreed = longer, n_agreed + 1
        if n_agreed < MIN_MATCH:
            return ()
        start = int(places[-1]) + 1
        drafted = ids[start : start + min(self._n_draft, n_most)].tolist()
        return tuple(drafted[: drafted.index(-1)] if -1 in drafted else drafted)

    def learn(self, n_drafted: int, n_accepted: int) -> None:
        """Adapts the length of the next draft to how much of the last one was right."""
        if n_drafted and n_accepted == n_drafted:
            self._n_draft = min(2 * self._n_draft, MAX_DRAFT)
        elif n_drafted:
            self._n_draft = max(n_accepted, 1)
