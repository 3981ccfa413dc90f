"""Fits the weights of `engine.recall` for a model: on held-out code, so that a place counts for what it is worth beside it.

The weights hang on the model: the better it repeats by itself, the less there is to add.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.api import Order
from engine.attention import SdpaAttention
from engine.encoding import encode_all
from engine.fim import build_prompt, fit
from engine.heads import GPTBigCodeForCausalLM
from engine.healing import Healing, take_back
from engine.recall import EDGES, Nearby, RecallWeights, bucket, features, weights_of
from engine.tokenizer import Tokenizer
from engine.training.holes import LineHole
from engine.training.samples import middle_ids
from engine.training.workers import chunks, in_processes

_MAX_NEW = 48
_RIDGE = 1e-4  # on every weight's way from its start: one that nothing speaks for stays there
_START = np.linspace(-4.0, 1.0, len(EDGES))


@dataclass(frozen=True, slots=True)
class Observed:
    """One predicted token: the log-probability the model gave the true one, and the places that spoke for any.

    Shapes: buckets and hits (places,); features (places, FEATURES).
    """

    logprob: float
    buckets: NDArray[np.int64]
    features: NDArray[np.float64]
    hits: NDArray[np.bool_]


def observe_all(
    holes: Sequence[LineHole], folder: Path, n_context: int, n_workers: int, on_done: Callable[[int], None]
) -> list[Observed]:
    """What stood nearby at every token of the true middles, for a folder's model."""
    observed: list[Observed] = []
    for n_holes, chunk in in_processes(partial(_observe_chunk, folder, n_context), chunks(holes), n_workers):
        observed += chunk
        on_done(n_holes)
    return observed


def _observe_chunk(folder: Path, n_context: int, holes: Sequence[LineHole]) -> tuple[int, list[Observed]]:
    torch.set_num_threads(1)
    model = GPTBigCodeForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.transformer.attention = SdpaAttention(model.config)
    tokenizer = Tokenizer.from_pretrained(folder)
    n_context = min(n_context, model.config.n_positions)
    return len(holes), [one for hole in holes for one in observe(hole, model, tokenizer, n_context)]


@torch.inference_mode()
def observe(hole: LineHole, model: GPTBigCodeForCausalLM, tokenizer: Tokenizer, n_context: int) -> list[Observed]:
    """What stood nearby at each token of a true middle, and where it ends."""
    before, healed = take_back(encode_all(hole.prefix, tokenizer), tokenizer)
    middle = middle_ids(hole.middle, healed, tokenizer)[:_MAX_NEW]
    prefix, suffix = fit(before, tokenizer.encode(hole.suffix), n_context - _MAX_NEW)
    ids = (*build_prompt(prefix, suffix, Order.SPM, tokenizer.special).ids, *middle)
    logits = model(torch.tensor([ids]), logits_to_keep=len(middle) + 1).logits[0, :-1]  # (middle, V)
    nearby = Nearby(tuple(prefix), tuple(suffix), tokenizer, len(middle), one_line=True)
    healing = Healing(healed, tokenizer)
    observed: list[Observed] = []
    for token_id, row in zip(middle, logits.float(), strict=True):
        logprobs = nearby.with_one_end(healing.constrain(row).log_softmax(-1), healing.left)
        if logprobs[token_id].isinf():
            return []  # a way to cut the word that the engine never takes
        places = nearby.places(healing.left).among(logprobs)
        entropy = float(-(logprobs.exp() * logprobs.clamp(min=-30)).sum())
        support = logprobs[torch.from_numpy(places.token_ids)].numpy()
        rows = features(places, support, entropy)
        hits = places.token_ids == token_id
        observed.append(Observed(float(logprobs[token_id]), bucket(places.n_agreed), rows, hits))
        nearby.append(token_id)
        healing.take(token_id)
    return observed


def fit_recall(observed: Sequence[Observed]) -> RecallWeights:
    """The weights under which the mixture finds the true tokens likeliest."""
    loss, agreement, others = likelihood(observed)
    optimizer = torch.optim.LBFGS([agreement, others], max_iter=300, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        away = (agreement - torch.from_numpy(_START)).square().sum() + others.square().sum()
        value = loss(agreement, others) + _RIDGE * away
        torch.autograd.backward(value)
        return value

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    fitted, rest = ([round(value, 4) for value in values.tolist()] for values in (agreement, others))
    return RecallWeights(tuple(fitted), *rest)


def nats_per_token(observed: Sequence[Observed], weights: RecallWeights) -> float:
    """Cross-entropy of the mixture."""
    loss, _, _ = likelihood(observed)
    agreement = torch.tensor(weights.agreement, dtype=torch.float64)
    return float(loss(agreement, torch.from_numpy(weights_of(weights))))


def likelihood(observed: Sequence[Observed]) -> tuple[Callable[[Tensor, Tensor], Tensor], Tensor, Tensor]:
    """The mean cross-entropy as a function of the weights, and where to start."""
    steps = torch.from_numpy(np.repeat(np.arange(len(observed)), [len(one.hits) for one in observed]))
    buckets = torch.from_numpy(np.concatenate([one.buckets for one in observed]))
    rows = torch.from_numpy(np.concatenate([one.features for one in observed]))
    hits = torch.from_numpy(np.concatenate([one.hits for one in observed]))
    of_model = torch.tensor([one.logprob for one in observed], dtype=torch.float64).exp()

    def loss(agreement: Tensor, others: Tensor) -> Tensor:
        evidence = torch.exp(agreement[buckets] + rows @ others)
        right = torch.zeros_like(of_model).index_add(0, steps, evidence * hits)
        total = torch.zeros_like(of_model).index_add(0, steps, evidence)
        mean: Tensor = -((of_model + right) / (1 + total)).clamp(min=1e-12).log().mean()
        return mean

    agreement = torch.tensor(_START, requires_grad=True)
    others = torch.zeros(rows.shape[1], dtype=torch.float64, requires_grad=True)
    return loss, agreement, others
