"""Batches: samples packed into flat rows without a gap, a pure function of seed and step.

A row holds samples end to end; positions start over at each, and none sees another (`packed.PackedAttention`). The last one
of a row is plain text cut to the room that is left, so no position is padding.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from engine.tokenizer import Tokenizer
from engine.training.samples import Kind, Mix, draw_hole, fim_ids, text_ids
from engine.training.texts import Texts

IGNORED = -100  # cross_entropy's default: no loss here
_MIN_SAMPLE = 96  # tokens; less room than that is filled with text


@dataclass(frozen=True, slots=True)
class Row:
    """One flat row of samples. Shapes: ids, positions and labels (T,); lengths add up to T."""

    ids: Tensor
    positions: Tensor
    labels: Tensor
    lengths: tuple[int, ...]

    def to(self, device: torch.device) -> Row:
        """The same row on another device."""
        return Row(self.ids.to(device), self.positions.to(device), self.labels.to(device), self.lengths)


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """The size of a step's batch, and what is in it.

    Rows double at each step of `grow_at`: the lower the loss, the more the gradient's noise costs, and the less it
    gains to step often (McCandlish et al. 2018, arXiv:1812.06162).
    """

    n_rows: int = 1
    row_tokens: int = 4096
    grow_at: tuple[int, ...] = ()
    n_positions: int = 2048
    mix: Mix = field(default_factory=Mix)
    seed: int = 0


class Batches:
    """Makes the batch of any step; `stream` makes them one ahead, in a thread."""

    def __init__(self, texts: Texts, tokenizer: Tokenizer, options: BatchOptions) -> None:
        self.texts, self.tokenizer, self._options = texts, tokenizer, options

    def batch(self, step: int) -> tuple[Row, ...]:
        """The rows of a step, whatever was made before."""
        rng = np.random.default_rng((self._options.seed, step))
        n_rows = self._options.n_rows * 2 ** sum(step >= grown for grown in self._options.grow_at)
        return tuple(pack(self._samples(rng)) for _ in range(n_rows))

    def stream(self, step: int) -> Iterator[tuple[Row, ...]]:
        """The batches from a step on, each made while the one before is trained on."""
        with ThreadPoolExecutor(1) as maker:
            pending = maker.submit(self.batch, step)
            while True:
                step += 1
                batch, pending = pending.result(), maker.submit(self.batch, step)
                yield batch

    def _samples(self, rng: np.random.Generator) -> list[list[int]]:
        options, samples, n_left = self._options, [], self._options.row_tokens
        while n_left > 0:
            kind = options.mix.draw_kind(rng) if n_left >= _MIN_SAMPLE else Kind.TEXT
            n_most = min(n_left, options.n_positions)
            n_tokens = min(options.mix.draw_n_tokens(options.n_positions, rng), n_most)
            ids = self._sample(kind, n_most if n_left < 2 * _MIN_SAMPLE else n_tokens, rng)
            if ids is not None and len(ids) <= n_most:
                samples.append(ids)
                n_left -= len(ids)
        return samples

    def _sample(self, kind: Kind, n_tokens: int, rng: np.random.Generator) -> list[int] | None:
        texts = self.texts
        text = texts[texts.at(int(rng.integers(texts.n_bytes)))]
        offset = int(rng.integers(len(text)))
        if kind is Kind.TEXT:
            return text_ids(text, offset, n_tokens, self.tokenizer)
        hole = draw_hole(text, offset, kind, n_tokens, rng)
        return fim_ids(hole, self._options.mix.draw_order(rng), self.tokenizer)


def pack(samples: list[list[int]]) -> Row:
    """Puts samples end to end; the last token of each predicts nothing."""
    ids = torch.tensor([token_id for sample in samples for token_id in sample])
    positions = torch.cat([torch.arange(len(sample)) for sample in samples])
    labels = torch.cat([torch.tensor([*sample[1:], IGNORED]) for sample in samples])
    return Row(ids, positions, labels, tuple(map(len, samples)))
