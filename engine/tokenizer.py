"""Text to ids and ids to bytes, for the byte-level BPE of the BigCode models.

Special tokens come from their roles, never from text: a `<fim_prefix>` typed in a source file is plain text.
"""

from __future__ import annotations

import codecs
import json
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import tokenizers
from numpy.typing import NDArray

from engine.api import CheckpointError

# Role -> the spellings of the published tokenizers (StarCoder, SantaCoder).
SPELLINGS = {
    "end_of_text": ("<|endoftext|>",),
    "fim_prefix": ("<fim_prefix>", "<fim-prefix>"),
    "fim_middle": ("<fim_middle>", "<fim-middle>"),
    "fim_suffix": ("<fim_suffix>", "<fim-suffix>"),
}


@dataclass(frozen=True, slots=True)
class SpecialIds:
    """Ids of the special tokens by role."""

    end_of_text: int
    fim_prefix: int
    fim_middle: int
    fim_suffix: int


class Tokenizer:
    """A model folder's tokenizer; text is encoded literally, ids are decoded to bytes."""

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        backend.encode_special_tokens = True  # else a typed `<fim_prefix>` becomes the special token
        self._backend = backend
        self.special = _special_ids(backend)
        self.has_words = _has_words(backend)  # text is cut into words, each encoded by itself, and nothing else
        self.n_vocab = backend.get_vocab_size()
        self._bytes = _token_bytes(backend)
        self.n_longest = max(map(len, self._bytes), default=0)  # bytes of the longest token

    @classmethod
    def from_pretrained(cls, folder: Path) -> Tokenizer:
        """Reads FOLDER/tokenizer.json, or has transformers convert an older vocabulary.

        Raises: CheckpointError where neither can be read, or the fill-in-the-middle tokens are missing.
        """
        path = folder / "tokenizer.json"
        try:
            if path.is_file():
                return cls(tokenizers.Tokenizer.from_file(str(path)))
            if not (folder / "vocab.json").is_file():
                raise CheckpointError("is missing, and there is no older vocab.json")
            from transformers import AutoTokenizer

            return cls(AutoTokenizer.from_pretrained(folder).backend_tokenizer)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from error
        except Exception as error:  # tokenizers raises bare Exception
            raise CheckpointError(f"{path}: cannot be read as a tokenizer: {error}") from error

    def encode(self, text: str) -> list[int]:
        """Ids of the text alone, which holds no lone surrogate."""
        return self._backend.encode(text, add_special_tokens=False).ids

    def encode_words(self, text: str) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Ids of the text, the offsets at which its words begin, and the index of each word's first id."""
        encoding = self._backend.encode(text, add_special_tokens=False)
        words = encoding.word_ids
        token_starts = [idx for idx, word in enumerate(words) if idx == 0 or word != words[idx - 1]]
        offsets = encoding.offsets
        return tuple(encoding.ids), tuple([offsets[idx][0] for idx in token_starts]), tuple(token_starts)

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token stands for; none for special and padding ids."""
        return self._bytes[token_id] if token_id < len(self._bytes) else b""

    def flat_bytes(self, ids: Sequence[int]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The bytes of all the ids, end to end, and where those of each begin."""
        flat, bounds = self._flat
        index = np.asarray(ids, np.int64)
        lengths = bounds[index + 1] - bounds[index]
        starts = np.cumsum(lengths) - lengths
        return flat[np.arange(lengths.sum()) + np.repeat(bounds[index] - starts, lengths)], starts

    def ids_starting_with(self, text: bytes) -> NDArray[np.int64]:
        """Ids of the tokens that begin with the text."""
        tokens, ids = self._sorted
        first = bisect_left(tokens, text)
        past = bisect_left(tokens, True, lo=first, key=lambda token: not token.startswith(text))
        return ids[first:past]

    @cached_property
    def _flat(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The bytes of every id, end to end, and where each begins and the last ends."""
        lengths = np.fromiter(map(len, self._bytes), np.int64, len(self._bytes))
        return np.frombuffer(b"".join(self._bytes), np.uint8), np.concatenate(([0], np.cumsum(lengths)))

    @cached_property
    def _sorted(self) -> tuple[list[bytes], NDArray[np.int64]]:
        """The tokens that stand for text, in the order of their bytes, and their ids."""
        ids = sorted((idx for idx, token in enumerate(self._bytes) if token), key=self._bytes.__getitem__)
        return [self._bytes[idx] for idx in ids], np.array(ids, np.int64)

    def decode(self, ids: list[int]) -> str:
        """Text of the ids; bytes that are no UTF-8 become U+FFFD."""
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")


class TextStream:
    """Turns token bytes into text as they come, holding back bytes until their code point is whole."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: bytes) -> str:
        """The code points that the token completes."""
        return self._decoder.decode(token)


def _has_words(backend: tokenizers.Tokenizer) -> bool:
    if backend.normalizer is not None or backend.pre_tokenizer is None:
        return False
    state = json.loads(backend.pre_tokenizer.__getstate__())
    kinds = {each["type"] for each in state.get("pretokenizers", [state])}
    return "ByteLevel" in kinds and kinds <= {"ByteLevel", "Digits"}


def _special_ids(backend: tokenizers.Tokenizer) -> SpecialIds:
    ids = {}
    for role, spellings in SPELLINGS.items():
        found = [token_id for token_id in map(backend.token_to_id, spellings) if token_id is not None]
        if not found:
            raise CheckpointError(f"has none of the tokens {' '.join(spellings)}; a fill-in-the-middle model is needed")
        ids[role] = found[0]
    return SpecialIds(**ids)


def _token_bytes(backend: tokenizers.Tokenizer) -> list[bytes]:
    """Bytes of each id, undoing the byte-level alphabet; empty for special tokens."""
    alphabet = _byte_alphabet()
    added = backend.get_added_tokens_decoder()
    vocabulary = backend.get_vocab(with_added_tokens=True)
    result = [b""] * (max(vocabulary.values()) + 1)
    for token, token_id in vocabulary.items():
        if token_id not in added:
            result[token_id] = bytes(alphabet[character] for character in token)
        elif not added[token_id].special:
            result[token_id] = token.encode()
    return result


def _byte_alphabet() -> dict[str, int]:
    """Character -> byte of GPT-2's byte-level alphabet: printable bytes stand for themselves, the others lie from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + idx): byte for idx, byte in enumerate(others)}
