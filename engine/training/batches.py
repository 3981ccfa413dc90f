"""Batches: samples packed into flat rows without a gap, a pure function of seed and step.

A row holds samples end to end; positions start over at each, and none sees another (`packed.PackedAttention`). The last one
of a row is plain text cut to the room that is left, so no position is padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from engine.tokenizer import Tokenizer
from engine.training.samples import Kind, Mix, Sample, draw_hole, fim_sample, text_sample
from engine.training.texts import Texts

_MIN_SAMPLE = 96  # tokens; less room than that is filled with text


@dataclass(frozen=True, slots=True)
class Row:
    """One flat row of samples. Shapes: ids, positions, labels and weights (T,); lengths add up to T.

    A label counts as often in the loss as its weight says, 0 times at the end of a sample.
    """

    ids: Tensor
    positions: Tensor
    labels: Tensor
    weights: Tensor
    lengths: tuple[int, ...]

    def to(self, device: torch.device) -> Row:
        """The same row on another device."""
        ids, positions, labels, weights = (each.to(device) for each in (self.ids, self.positions, self.labels, self.weights))
        return Row(ids, positions, labels, weights, self.lengths)


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
    middle_weight: float = 3.0  # a middle's token counts as often as this many others: it is what is asked for, and rare
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
        return tuple(pack(self._samples(rng), self._options.middle_weight) for _ in range(n_rows))

    def stream(self, step: int) -> Iterator[tuple[Row, ...]]:
        """The batches from a step on, each made while the one before is trained on."""
        with ThreadPoolExecutor(1) as maker:
            pending = maker.submit(self.batch, step)
            while True:
                step += 1
                batch, pending = pending.result(), maker.submit(self.batch, step)
                yield batch

    def _samples(self, rng: np.random.Generator) -> list[Sample]:
        options, samples, n_left = self._options, [], self._options.row_tokens
        while n_left > 0:
            kind = options.mix.draw_kind(rng) if n_left >= _MIN_SAMPLE else Kind.TEXT
            n_most = min(n_left, options.n_positions)
            n_tokens = min(options.mix.draw_n_tokens(options.n_positions, rng), n_most)
            sample = self._sample(kind, n_most if n_left < 2 * _MIN_SAMPLE else n_tokens, rng)
            if len(sample.ids) <= n_most:
                samples.append(sample)
                n_left -= len(sample.ids)
        return samples

    def _sample(self, kind: Kind, n_tokens: int, rng: np.random.Generator) -> Sample:
        texts = self.texts
        text = texts[texts.at(int(rng.integers(texts.n_bytes)))]
        offset = int(rng.integers(len(text)))
        if kind is Kind.TEXT:
            return text_sample(text, offset, n_tokens, self.tokenizer)
        hole = draw_hole(text, offset, kind, n_tokens, rng)
        return fim_sample(hole, self._options.mix.draw_order(rng), self.tokenizer)


def pack(samples: Sequence[Sample], middle_weight: float = 1.0) -> Row:
    """Puts samples end to end; the last token of each predicts nothing, its label has no weight."""
    ids = torch.tensor([token_id for sample in samples for token_id in sample.ids])
    positions = torch.cat([torch.arange(len(sample.ids)) for sample in samples])
    labels = torch.cat([torch.tensor([*sample.ids[1:], 0]) for sample in samples])
    weights = torch.cat([_weights(sample, middle_weight) for sample in samples])
    return Row(ids, positions, labels, weights, tuple(len(sample.ids) for sample in samples))


def _weights(sample: Sample, middle_weight: float) -> Tensor:
    weights = torch.ones(len(sample.ids))
    weights[sample.n_prompt - 1 :] = middle_weight
    weights[-1] = 0.0
    return weights
