"""Encoding a text that was edited at the cost of the edit, with the ids that encoding all of it would give.

Byte-level BPE first cuts a text into words (pre-tokens) by a regular expression, from left to right, and then merges
inside each. A word depends on nothing before it and on a few characters behind it. So words that end a little before an
edit stay, and from the first place behind it where a word begins in both texts, the rest stays too.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass

from engine.matching import n_common, n_common_end
from engine.tokenizer import Tokenizer

_LOOKAHEAD_CHARS = 4  # a word may end differently if these change: `'ve`, or white space before a word
_RESYNC_CHARS = 64  # encoded behind an edit, to find where the words of both texts meet again


@dataclass(frozen=True, slots=True)
class EncodedText:
    """A text with its ids, and where its words begin: as offsets into the text and as indexes into the ids."""

    text: str = ""
    ids: tuple[int, ...] = ()
    word_starts: tuple[int, ...] = ()
    token_starts: tuple[int, ...] = ()

    def joined(self, other: EncodedText) -> EncodedText:
        """Both texts as one, where a word begins at the border."""
        n_chars, n_ids = len(self.text), len(self.ids)
        return EncodedText(
            self.text + other.text,
            self.ids + other.ids,
            self.word_starts + tuple([start + n_chars for start in other.word_starts]),
            self.token_starts + tuple([start + n_ids for start in other.token_starts]),
        )

    def before_word(self, word_idx: int) -> EncodedText:
        """The words before one of them, or all."""
        if word_idx >= len(self.word_starts):
            return self
        n_chars, n_ids = self.word_starts[word_idx], self.token_starts[word_idx]
        return EncodedText(self.text[:n_chars], self.ids[:n_ids], self.word_starts[:word_idx], self.token_starts[:word_idx])

    def from_word(self, word_idx: int) -> EncodedText:
        """The words from one of them on."""
        if word_idx >= len(self.word_starts):
            return EncodedText()
        n_chars, n_ids = self.word_starts[word_idx], self.token_starts[word_idx]
        return EncodedText(
            self.text[n_chars:],
            self.ids[n_ids:],
            tuple([start - n_chars for start in self.word_starts[word_idx:]]),
            tuple([start - n_ids for start in self.token_starts[word_idx:]]),
        )


def encode(text: str, tokenizer: Tokenizer, before: EncodedText | None = None) -> EncodedText:
    """Encodes a text, reusing what agrees of an earlier one."""
    if before is None or not tokenizer.has_words:
        return encode_all(text, tokenizer)
    if text == before.text:
        return before
    n_same = n_common(text, before.text)
    head = before.before_word(max(bisect_right(before.word_starts, n_same - _LOOKAHEAD_CHARS) - 1, 0))
    n_tail = n_common_end(text, before.text, limit=min(len(text), len(before.text)) - n_same)
    shift = len(text) - len(before.text)
    edit_end = len(text) - n_tail
    middle = encode_all(text[len(head.text) : edit_end + _RESYNC_CHARS], tokenizer)
    if len(head.text) + len(middle.text) == len(text):
        return head.joined(middle)
    for word_idx in range(bisect_left(before.word_starts, edit_end - shift), len(before.word_starts)):
        start = before.word_starts[word_idx] + shift - len(head.text)  # in the middle's text
        if start > len(middle.text) - _LOOKAHEAD_CHARS:
            break
        meeting_idx = bisect_left(middle.word_starts, start)
        if meeting_idx < len(middle.word_starts) and middle.word_starts[meeting_idx] == start:
            return head.joined(middle.before_word(meeting_idx)).joined(before.from_word(word_idx))
    return head.joined(encode_all(text[len(head.text) :], tokenizer))


def encode_all(text: str, tokenizer: Tokenizer) -> EncodedText:
    """Encodes a text from scratch."""
    ids, word_starts, token_starts = tokenizer.encode_words(text)
    return EncodedText(text, ids, word_starts, token_starts)
