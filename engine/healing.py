"""The word that the cursor stands in: taken back from the prompt's end, and written again by the model.

A word cut in two misleads the model, whose tokens end where words do: the ids of `calc` are no beginning of those of
`calculate`. So the prompt ends before the last word (or white space) in front of the cursor, and what the model writes must
begin with it: by the word's own tokens, of which any may give way to one that holds all that is left and more. While a
person types inside a word the prompt stays the same.
Source: Lundberg 2023, "The Art of Prompt Design: Prompt Boundaries and Token Healing", which takes back one token.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.fim import Ids
from engine.tokenizer import Tokenizer

MAX_HEALED_TOKENS = 8  # of a longer word nothing is taken back: its tokens would delay the first text


class Healing:
    """What the output must still begin with: the word of these `ids`. Afterwards, and without any, all is allowed."""

    def __init__(self, ids: Ids, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids = ids
        self._left = b"".join(map(tokenizer.token_bytes, ids))

    @property
    def n_bytes(self) -> int:
        """Bytes that are still to be written again."""
        return len(self._left)

    def allowed(self) -> Tensor | None:
        """Ids of the tokens that may come next; None for all. Any other way to cut the word was never trained."""
        if not self._left:
            return None
        whole = self._tokenizer.ids_starting_with(self._left)
        return torch.tensor(whole if len(self._ids) == 1 else [self._ids[0], *whole])

    def take(self, token_id: int) -> None:
        """Notes a token that was written."""
        self._left = self._left[len(self._tokenizer.token_bytes(token_id)) :]
        self._ids = self._ids[1:] if self._left else ()

    def draft(self) -> Ids:
        """The tokens that will probably come, as far as the word goes."""
        return self._ids
