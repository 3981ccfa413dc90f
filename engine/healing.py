"""The word that the cursor stands in: taken back from the prompt's end, and written again by the model.

A word cut in two misleads the model, whose tokens end where words do: the ids of `calc` are no beginning of those of
`calculate`. So the prompt ends before the last word in front of the cursor, or before the last blank, which belongs to the
word that follows, and what the model writes must begin with it: by the word's own tokens, of which any may give way to one
that holds all that is left and more. While a person types inside a word the prompt stays the same.
Source: Lundberg 2023, "The Art of Prompt Design: Prompt Boundaries and Token Healing", which takes back one token.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.encoding import EncodedText
from engine.fim import Ids
from engine.tokenizer import Tokenizer

MAX_HEALED_TOKENS = 8  # of a longer word nothing is taken back: its tokens would delay the first text


def take_back(text: EncodedText, tokenizer: Tokenizer) -> tuple[Ids, Ids]:
    """The ids before a text's last word, and that word's, which the model is to write again.

    Of white space only the last character: `        body` is seven blanks and ` body`.
    """
    if not text.ids:
        return (), ()
    before, healed = text.ids[: text.token_starts[-1]], text.ids[text.token_starts[-1] :]
    if len(healed) > MAX_HEALED_TOKENS:
        return text.ids, ()
    word = text.text[text.word_starts[-1] :]
    if word.isspace():
        return (*before, *tokenizer.encode(word[:-1])), tuple(tokenizer.encode(word[-1]))
    return before, healed


class Healing:
    """What the output must still begin with: the word of these `ids`. Afterwards, and without any, all is allowed."""

    def __init__(self, ids: Ids, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids = ids
        self.left = b"".join(map(tokenizer.token_bytes, ids))

    def allowed(self) -> NDArray[np.int64] | None:
        """Ids of the tokens that may come next; None for all. Any other way to cut the word was never trained."""
        if not self.left:
            return None
        whole = self._tokenizer.ids_starting_with(self.left)
        return whole if len(self._ids) == 1 else np.append(whole, self._ids[0])

    def constrain(self, logits: Tensor) -> Tensor:
        """The logits, -inf where a token is not allowed. Shapes: logits and result (V,)."""
        allowed = self.allowed()
        if allowed is None:
            return logits
        index = torch.from_numpy(allowed).to(logits.device)
        return torch.full_like(logits, -torch.inf).index_copy_(0, index, logits[index])

    def take(self, token_id: int) -> None:
        """Notes a token that was written."""
        self.left = self.left[len(self._tokenizer.token_bytes(token_id)) :]
        self._ids = self._ids[1:] if self.left else ()

    def draft(self) -> Ids:
        """The tokens that will probably come, as far as the word goes."""
        return self._ids
