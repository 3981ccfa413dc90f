"""Trains the byte-level BPE: StarCoder's special tokens first, in StarCoder's order, digits one by one.

Sources: Li et al. 2023, arXiv:2305.06161, section 4 (special tokens, digit splitting); GPT-2's pre-tokenisation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
from tokenizers.trainers import BpeTrainer

from engine.training.texts import Texts

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<fim_prefix>",
    "<fim_middle>",
    "<fim_suffix>",
    "<fim_pad>",
    "<filename>",
    "<gh_stars>",
    "<issue_start>",
    "<issue_comment>",
    "<issue_closed>",
    "<jupyter_start>",
    "<jupyter_text>",
    "<jupyter_code>",
    "<jupyter_output>",
    "<empty_output>",
    "<commit_before>",
    "<commit_msg>",
    "<commit_after>",
    "<reponame>",
)


def train_tokenizer(texts: Iterable[str], n_vocab: int) -> Tokenizer:
    """Learns merges from the texts until the vocabulary, special tokens and all 256 bytes included, has `n_vocab` entries."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)])
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=n_vocab,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def sample_texts(texts: Texts, n_bytes: int, seed: int) -> Iterator[str]:
    """Whole documents in random order until they amount to `n_bytes`."""
    for document_idx in np.random.default_rng(seed).permutation(len(texts)):
        text = texts[int(document_idx)]
        yield text
        n_bytes -= len(text.encode())
        if n_bytes <= 0:
            return
