"""Where a completion ends: end of text, a newline, the token limit, or where it begins to repeat the suffix.

Newline and suffix are judged on text, not on ids: the suffix is tokenised separately, so its ids need not match the
output's.
"""

from __future__ import annotations

from engine.api import Chunk, Finish, Request, Stop
from engine.sampler import Sampled
from engine.tokenizer import TextStream, Tokenizer

MIN_REPEATED_CHARS = 3  # a shorter rest of a line repeats by chance


class Writer:
    """Turns the sampled tokens of one alternative into chunks of text until it is over.

    The first `n_healed` bytes stand before the cursor already: they are no text of the answer, nor are tokens that are
    nothing else counted.
    """

    def __init__(self, request: Request, tokenizer: Tokenizer, choice: int, n_healed: int = 0) -> None:
        self._max_tokens = request.max_tokens
        self._tokenizer = tokenizer
        self._choice = choice
        self._stop = StopRule(request.stop, request.suffix)
        self._text = TextStream()
        self._logprobs: list[float] = []  # of the tokens whose text is still held back
        self._n_tokens = 0
        self._n_healed = n_healed  # bytes still to come

    @property
    def n_left(self) -> int:
        """Tokens that may still be sampled."""
        return self._max_tokens - self._n_tokens

    def feed(self, sampled: Sampled) -> tuple[Chunk | None, Finish | None]:
        """The text that the token lets out, and why the alternative ended, if it did."""
        token = self._tokenizer.token_bytes(sampled.token_id)
        if not token:  # end of text; the other special tokens end it too, for they stand for no text
            return self.rest(), Finish.END_OF_TEXT
        self._n_healed, token = max(self._n_healed - len(token), 0), token[self._n_healed :]
        if not token:
            return None, None
        self._n_tokens += 1
        self._logprobs.append(sampled.logprob)
        text, finish = self._stop.feed(self._text.feed(token))
        if finish is None and self._n_tokens == self._max_tokens:
            text, finish = text + self._stop.flush(), Finish.MAX_TOKENS
        return self._chunk(text), finish

    def rest(self) -> Chunk | None:
        """What was held back, for an answer that ends here; half a code point is dropped."""
        return self._chunk(self._stop.flush())

    def _chunk(self, text: str) -> Chunk | None:
        if not text:
            return None
        logprobs, self._logprobs = tuple(self._logprobs), []
        return Chunk(text=text, logprobs=logprobs, choice=self._choice)


class StopRule:
    """Passes text through until the completion is over, holding back what may turn out to be the suffix."""

    def __init__(self, stop: Stop, suffix: str) -> None:
        self._stop = stop
        self._repeat = repeated_text(suffix)
        self._held = ""

    def feed(self, piece: str) -> tuple[str, Finish | None]:
        """The text that may be shown now, and why the completion ended, if it did."""
        text = self._held + piece
        ends: list[tuple[int, Finish]] = []
        if self._stop is Stop.NEWLINE and "\n" in text:
            ends.append((text.index("\n"), Finish.NEWLINE))
        if self._repeat and self._repeat in text:
            ends.append((text.index(self._repeat), Finish.SUFFIX))
        if ends:
            self._held = ""
            end, finish = min(ends)
            return text[:end], finish
        n_shown = len(text) - _overlap(text, self._repeat)
        self._held = text[n_shown:]
        return text[:n_shown], None

    def flush(self) -> str:
        """What was held back, once no more text comes."""
        held, self._held = self._held, ""
        return held


def repeated_text(suffix: str) -> str:
    """The text whose appearance says that the output has begun to repeat the suffix; empty where nothing can say it.

    That is the rest of the cursor's line, or, where that is empty, the first line below with text, as a whole line.
    """
    rest, _, below = suffix.partition("\n")
    rest = rest.strip()
    if rest:
        return rest if len(rest) >= MIN_REPEATED_CHARS else ""
    line = next((line for line in below.split("\n") if line.strip()), "")
    return f"\n{line}\n" if line else ""


def _overlap(text: str, pattern: str) -> int:
    """Length of the longest end of the text that begins the pattern."""
    return next((n for n in range(min(len(text), len(pattern)), 0, -1) if text.endswith(pattern[:n])), 0)
