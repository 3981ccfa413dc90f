"""What stands nearby, as a guess at the next token: a cache language model over the prompt, mixed into the model's own.

A small model is weak at repeating. Wherever the text before the cursor stood before, the token that followed there gets
evidence; a longer agreement counts for more, and the model's distribution for one:

    p(t) = (p_model(t) + sum of w over the places followed by t) / (1 + sum of w over all places)

Agreement is measured in bytes, not in tokens: a word that the cursor cuts in two is tokenised otherwise than the whole word
that stands above. The weights are fitted on held-out code (`engine.training.fitting`) and lie in the model's folder.
Sources: Kuhn & De Mori 1990 (cache language models); Grave et al. 2017, arXiv:1612.04426.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.api import CheckpointError, Request, Stop
from engine.fim import FimPrompt, Ids
from engine.tokenizer import SpecialIds, Tokenizer

FILE = "recall.json"
EDGES = (2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 24, 28, 32)  # agreeing bytes from which each of the weights counts
FEATURES = ("distance", "suffix", "suffix_distance", "doubt", "support", "blank", "word")
MOST_PLACES = 48  # the longest agreements, and of equal ones the latest
NEAR_BYTES = 64  # from the cursor: where distance changes nothing
_BLANK, _NEWLINE = b" \n"
_IN_WORD = np.array([chr(byte).isalnum() or chr(byte) == "_" for byte in range(128)] + [True] * 128)
_WINDOW = EDGES[-1]  # bytes that are compared
_WORD_BYTES = 24  # looked at to encode the rest of a word


@dataclass(frozen=True, slots=True)
class RecallWeights:
    """Logarithms of the evidence of one place, by agreement, and what is added to them."""

    agreement: tuple[float, ...]  # one for each of EDGES
    distance: float  # per doubling of the bytes between the place and the cursor, in the prefix
    suffix: float  # where the place is in the suffix
    suffix_distance: float
    doubt: float  # per nat of the model's entropy over 4
    support: float  # per nat of the model's log-probability of the token over -6
    blank: float  # where a blank would follow a blank: how deep to indent is not what the text says
    word: float  # where the first token written would go on with the word that the cursor cuts

    @classmethod
    def from_folder(cls, folder: Path) -> RecallWeights | None:
        """The weights in a model's folder; None where it has none, as published ones have.

        Raises: CheckpointError where the file does not hold such weights.
        """
        path = folder / FILE
        if not path.is_file():
            return None
        try:
            values = json.loads(path.read_text("utf-8"))
            weights = cls(tuple(map(float, values.pop("agreement"))), **{name: float(value) for name, value in values.items()})
            numbers = [*weights.agreement, *(getattr(weights, field.name) for field in fields(cls)[1:])]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{path}: holds no weights of a recall: {error!r}") from error
        if len(weights.agreement) != len(EDGES) or not all(map(math.isfinite, numbers)):
            raise CheckpointError(f"{path}: agreement must be {len(EDGES)} numbers, and all must be finite")
        return weights

    def save(self, folder: Path) -> None:
        """Writes what `from_folder` reads."""
        (folder / FILE).write_text(json.dumps(asdict(self), indent=1) + "\n", "utf-8")


@dataclass(frozen=True, slots=True)
class Places:
    """Earlier places that the text before the cursor agrees with. Each (places,)."""

    n_agreed: NDArray[np.int64]  # bytes
    n_away: NDArray[np.int64]  # bytes between place and cursor; in the suffix, from its start
    in_suffix: NDArray[np.bool_]
    token_ids: NDArray[np.int64]  # what followed there
    is_blank: NDArray[np.bool_]  # whether it begins with a blank behind a blank
    is_word: NDArray[np.bool_]  # whether it goes on with the word that the cursor cut

    def among(self, logprobs: Tensor) -> Places:
        """Those whose token can come at all. Shapes: logprobs (V,)."""
        possible = logprobs[torch.from_numpy(self.token_ids).to(logprobs.device)].isfinite().cpu().numpy()
        if possible.all():
            return self
        return Places(*(getattr(self, each.name)[possible] for each in fields(self)))


class Nearby:
    """The text of a prompt, and behind it what is written, with the token that begins at each byte.

    Where `one_line` is all that is wanted, a newline counts as the end of text: it ends the line as well.
    """

    def __init__(self, prefix: Ids, suffix: Ids, tokenizer: Tokenizer, n_new: int, *, one_line: bool) -> None:
        self._tokenizer = tokenizer
        self._one_line = one_line
        before, before_starts = tokenizer.flat_bytes(prefix)
        after, after_starts = tokenizer.flat_bytes(suffix)
        # A zero in between, a byte that text rarely holds, so that no agreement crosses it; in front a whole window of them.
        self._prefix_start = _WINDOW + len(after) + 1
        self._n = self._cursor = self._prefix_start + len(before)
        room = self._n + n_new * tokenizer.n_longest + 1
        self._bytes = np.zeros(room, np.uint8)
        self._bytes[_WINDOW : self._prefix_start - 1] = after
        self._bytes[self._prefix_start : self._n] = before
        self._windows = np.lib.stride_tricks.sliding_window_view(self._bytes, _WINDOW)  # a view: it sees what is appended
        self._starting = np.full(room, -1, np.int64)  # the token that begins at each byte; -1 inside one
        self._starting[_WINDOW + after_starts] = suffix
        self._starting[self._prefix_start + before_starts] = prefix
        self._rests: dict[bytes, int] = {}
        self._newlines = torch.from_numpy(tokenizer.ids_starting_with(bytes([_NEWLINE])))

    def with_one_end(self, logprobs: Tensor, ahead: bytes = b"") -> Tensor:
        """Where one line is wanted, all tokens that end it as one: whether it ends is one question, however it would go on.

        It can't end where `ahead` is known to come next. Shapes: logprobs and result (V,).
        """
        if ahead or not self._one_line:
            return logprobs
        newlines, end = self._newlines.to(logprobs.device), self._tokenizer.special.end_of_text
        pooled = logprobs.index_fill(0, newlines, -torch.inf)
        pooled[end] = torch.cat((logprobs[newlines], logprobs[end, None])).logsumexp(0)
        return pooled

    def append(self, token_id: int) -> None:
        """Notes the next token of the text."""
        token = self._tokenizer.token_bytes(token_id)
        self._starting[self._n] = token_id
        self._bytes[self._n : self._n + len(token)] = np.frombuffer(token, np.uint8)
        self._n += len(token)

    def places(self, ahead: bytes = b"") -> Places:
        """Where the last bytes stood before, and behind them those known to come next, in no order."""
        n, text = self._n + len(ahead), self._bytes
        text[self._n : n] = np.frombuffer(ahead, np.uint8)
        n_most = min(_WINDOW, n - self._prefix_start)
        if n_most < EDGES[0]:
            return self._at(np.zeros(0, np.int64), np.zeros(0, np.int64), 0)
        same = (text[_WINDOW + 1 : n - 1] == text[n - 1]) & (text[_WINDOW : n - 2] == text[n - 2])
        ends = np.flatnonzero(same) + _WINDOW + 2
        differs = self._windows[ends - _WINDOW] != text[n - _WINDOW : n]  # (places, _WINDOW)
        agreed = np.where(differs.any(1), differs[:, ::-1].argmax(1), _WINDOW).clip(max=n_most)
        whole = np.flatnonzero(agreed >= min(len(ahead), EDGES[-1]))
        ends, agreed = ends[whole], agreed[whole]
        if len(ends) > MOST_PLACES:
            best = np.argpartition(agreed * len(text) + ends, -MOST_PLACES)[-MOST_PLACES:]
            ends, agreed = ends[best], agreed[best]
        return self._at(ends, agreed, len(ahead))

    def _at(self, ends: NDArray[np.int64], agreed: NDArray[np.int64], n_ahead: int) -> Places:
        starts = ends - n_ahead
        token_ids = self._starting[starts]
        for idx in np.flatnonzero(token_ids < 0):
            token_ids[idx] = self._rest(int(starts[idx]))
        if self._one_line and not n_ahead:
            token_ids[self._bytes[ends] == _NEWLINE] = self._tokenizer.special.end_of_text
        known = token_ids >= 0
        ends, starts, in_suffix = ends[known], starts[known], ends[known] < self._prefix_start
        following, last = self._bytes[ends], self._bytes[self._n + n_ahead - 1]
        is_word = _IN_WORD[following] & (_IN_WORD[last] and self._n == self._cursor)
        return Places(
            n_agreed=agreed[known],
            n_away=np.where(in_suffix, starts - _WINDOW, self._n - starts),
            in_suffix=in_suffix,
            token_ids=token_ids[known],
            is_blank=(following == _BLANK) & (last == _BLANK),
            is_word=is_word,
        )

    def _rest(self, at: int) -> int:
        """The first token of the rest of a word; -1 at the suffix's end."""
        rest = self._bytes[at : min(at + _WORD_BYTES, self._n)].tobytes().partition(b"\0")[0]
        if rest not in self._rests:
            ids = self._tokenizer.encode(rest.decode("utf-8", "ignore"))
            self._rests[rest] = ids[0] if ids else -1
        return self._rests[rest]


class Recall:
    """Mixes what stands nearby into next-token distributions, token by token."""

    def __init__(self, nearby: Nearby, weights: RecallWeights) -> None:
        self._nearby, self._weights = nearby, weights
        self._agreement = np.array(weights.agreement)

    @classmethod
    def of_prompt(cls, prompt: FimPrompt, request: Request, tokenizer: Tokenizer, weights: RecallWeights) -> Recall:
        """A recall over a request's prompt, in either order."""
        parts = _parts(prompt.ids, tokenizer.special)
        n_new = request.max_tokens + len(prompt.healed)
        return cls(Nearby(*parts, tokenizer, n_new, one_line=request.stop is Stop.NEWLINE), weights)

    def take(self, token_id: int) -> None:
        """Notes the next token of the text."""
        self._nearby.append(token_id)

    def mix(self, logprobs: Tensor, ahead: bytes = b"") -> Tensor:
        """The mixture's log-probabilities; `ahead` is what the next token is known to begin with, or begins.

        Shapes: logprobs and result (V,), float32.
        """
        logprobs = self._nearby.with_one_end(logprobs, ahead)
        places = self._nearby.places(ahead).among(logprobs)
        if not len(places.token_ids):
            return logprobs
        token_ids = torch.from_numpy(places.token_ids).to(logprobs.device)
        entropy = float(-(logprobs.exp() * logprobs.clamp(min=-30)).sum())
        evidence = self._evidence(places, logprobs[token_ids].cpu().numpy(), entropy)
        weights = torch.from_numpy(evidence).to(logprobs)
        mixed = logprobs.exp().index_add(0, token_ids, weights)
        return (mixed / (1 + weights.sum())).log()

    def _evidence(self, places: Places, support: NDArray[np.float32], entropy: float) -> NDArray[np.float64]:
        weights = self._weights
        return np.exp(self._agreement[bucket(places.n_agreed)] + features(places, support, entropy) @ weights_of(weights))


def bucket(n_agreed: NDArray[np.int64]) -> NDArray[np.int64]:
    """The index into EDGES of each agreement."""
    return np.searchsorted(EDGES, n_agreed, side="right") - 1


def features(places: Places, support: NDArray[np.float32], entropy: float) -> NDArray[np.float64]:
    """What the weights but `agreement` are multiplied with. Shapes: result (places, FEATURES)."""
    doublings = np.log2(np.maximum(places.n_away, NEAR_BYTES) / NEAR_BYTES)
    return np.stack(
        (
            np.where(places.in_suffix, 0.0, doublings),
            places.in_suffix.astype(np.float64),
            np.where(places.in_suffix, doublings, 0.0),
            np.full(len(doublings), entropy - 4.0),
            np.maximum(support, -12.0) + 6.0,
            places.is_blank.astype(np.float64),
            places.is_word.astype(np.float64),
        ),
        axis=1,
    )


def weights_of(weights: RecallWeights) -> NDArray[np.float64]:
    """The weights of `features`, in their order."""
    return np.array([getattr(weights, name) for name in FEATURES], np.float64)


def _parts(ids: Ids, special: SpecialIds) -> tuple[Ids, Ids]:
    """The text before the cursor and behind it, whose ids a prompt's special tokens separate; all is prefix without them."""
    if special.fim_middle not in ids:
        return ids, ()
    middle = ids.index(special.fim_middle)
    suffix = ids.index(special.fim_suffix)
    return ids[1:suffix] + ids[middle + 1 :], ids[suffix + 1 : middle]  # in SPM the first part is empty
