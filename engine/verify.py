"""Compares this engine with transformers on a user's own machine and checkpoint, in float32.

One model is in memory at a time: at most the checkpoint in float32, and its file as the system maps it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from engine.attention import BACKENDS
from engine.config import is_santacoder
from engine.heads import GPTBigCodeForCausalLM

MAX_RELATIVE_ERROR = 1e-5


@dataclass(frozen=True, slots=True)
class Verdict:
    """How far one attention backend's logits are from transformers', and how many greedy ids agree."""

    attention: str
    relative_error: float  # largest logit difference over the largest logit, padded rows and cached tokens included
    n_same: int
    n_greedy: int

    @property
    def passed(self) -> bool:
        """Whether both agree as far as float32 can."""
        return self.relative_error <= MAX_RELATIVE_ERROR and self.n_same == self.n_greedy


@dataclass(frozen=True, slots=True)
class _Case:
    """Two random prompts, the second padded on the left. Shapes: each (2, T)."""

    ids: Tensor
    mask: Tensor
    positions: Tensor
    n_greedy: int


@dataclass(frozen=True, slots=True)
class _Answer:
    """Shapes: ids (1, T + greedy); logits of the padded batch (2, T, V), of the greedy ids (1, T + greedy, V)."""

    ids: Tensor
    padded_logits: Tensor
    logits: Tensor


def verify(folder: Path, *, n_prompt: int = 64, n_greedy: int = 60, seed: int = 0) -> list[Verdict]:
    """Runs random prompts through both implementations, once per attention backend.

    Raises: CheckpointError where the folder cannot be loaded.
    """
    with torch.inference_mode():
        ours = GPTBigCodeForCausalLM.from_pretrained(folder, dtype=torch.float32)
        case = _case(ours, n_prompt, n_greedy, seed)
        answers = {}
        for name, backend in BACKENDS.items():
            ours.transformer.attention = backend(ours.config)
            answers[name] = _answer_of_ours(ours, case)
        del ours
        with _folder_for_transformers(folder) as readable:
            wanted = _answer_of_transformers(readable, case)
    return [_compare(name, answer, wanted, case) for name, answer in answers.items()]


def _case(model: GPTBigCodeForCausalLM, n_prompt: int, n_greedy: int, seed: int) -> _Case:
    n_positions = model.config.n_positions
    n_greedy = min(n_greedy, n_positions // 2)
    n_prompt = min(n_prompt, n_positions - n_greedy)
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(model.n_used_ids, (2, n_prompt), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, : n_prompt // 3] = 0
    return _Case(ids, mask, (mask.cumsum(-1) - 1).clamp(min=0), n_greedy)


def _answer_of_ours(model: GPTBigCodeForCausalLM, case: _Case) -> _Answer:
    cache = model.new_cache()
    ids, new = case.ids[:1], case.ids[:1]
    scores = []
    for _ in range(case.n_greedy):
        scores.append(model(new, kv_cache=cache).logits)
        new = scores[-1][:, -1:].argmax(-1)
        ids = torch.cat((ids, new), dim=1)
    scores.append(model(new, kv_cache=cache).logits)
    return _Answer(ids, model(case.ids, case.mask, case.positions).logits, torch.cat(scores, dim=1))


def _answer_of_transformers(folder: Path, case: _Case) -> _Answer:
    from transformers import GPTBigCodeForCausalLM as TheirModel

    model: Any = TheirModel.from_pretrained(folder, dtype=torch.float32)
    model.eval()
    ids, new, past = case.ids[:1], case.ids[:1], None
    for _ in range(case.n_greedy):
        output = model(new, past_key_values=past, use_cache=True, logits_to_keep=1)
        past = output.past_key_values
        new = output.logits[:, -1:].argmax(-1)
        ids = torch.cat((ids, new), dim=1)
    padded = model(case.ids, attention_mask=case.mask, position_ids=case.positions, use_cache=False)
    return _Answer(ids, padded.logits, model(ids, use_cache=False).logits)


@contextmanager
def _folder_for_transformers(folder: Path) -> Iterator[Path]:
    """The folder itself; for the original SantaCoder, which transformers never read, our conversion of it."""
    if not is_santacoder(folder):
        yield folder
        return
    with TemporaryDirectory(prefix="midfill-verify-") as converted:
        GPTBigCodeForCausalLM.from_pretrained(folder).save_pretrained(converted)
        yield Path(converted)


def _compare(name: str, got: _Answer, wanted: _Answer, case: _Case) -> Verdict:
    """Rows on padding are left out: backends differ there, and nobody reads them."""
    n_prompt = case.ids.shape[1]
    n_same = int((got.ids == wanted.ids)[0, n_prompt:].long().cumprod(0).sum())
    n_alike = n_prompt + n_same  # behind the first id that differs, the logits are of different texts
    kept = case.mask.bool()
    errors = (
        _relative_error(got.padded_logits[kept], wanted.padded_logits[kept]),
        _relative_error(got.logits[:, :n_alike], wanted.logits[:, :n_alike]),
    )
    return Verdict(name, max(errors), n_same, case.n_greedy)


def _relative_error(got: Tensor, wanted: Tensor) -> float:
    return float((got - wanted).abs().max() / wanted.abs().max())
