"""Continuing a batch of prompts, for those who call the model classes themselves; the serving path is `decoder`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.api import ContextTooLong
from engine.kv_cache import KVCache
from engine.sampler import Sampling

if TYPE_CHECKING:
    from engine.heads import GPTBigCodeForCausalLM

END_CHECK_TOKENS = 16  # on an accelerator, whose queue a look at the flags would drain


@dataclass(frozen=True, slots=True)
class Continuation:
    """How far to go on, and how: a row ends with any of `stops`, and `pad_id`s stand behind its end.

    Raises: ValueError where nothing could be written, or a stop is no sequence of ids.
    """

    max_new_tokens: int
    stops: tuple[tuple[int, ...], ...]
    pad_id: int
    sampling: Sampling

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {self.max_new_tokens}, must be at least 1")
        for stop in self.stops:
            if not stop or not all(isinstance(token_id, int) for token_id in stop):
                raise ValueError(f"stop {stop!r} is no sequence of token ids; encode text with the tokenizer first")


@dataclass(frozen=True, slots=True)
class _Batch:
    """Prompt and room for what is written, filled column by column. Shapes: each (B, prompt + max_new_tokens)."""

    ids: Tensor
    keep: Tensor | None  # None without padding
    positions: Tensor | None
    token_types: Tensor | None


def generate(
    model: GPTBigCodeForCausalLM,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    token_type_ids: Tensor | None,
    continuation: Continuation,
) -> Tensor:
    """Prompt and continuation of each row, cut where all have ended. The loop never waits for an accelerator's result.

    Shapes: input_ids (B, T), attention_mask and token_type_ids alike or None; result (B, T + new).
    Raises: ContextTooLong past the model's positions.
    """
    n_prompt, n_positions = input_ids.shape[1], model.config.n_positions
    n_total = n_prompt + continuation.max_new_tokens
    if n_total - 1 > n_positions:  # the last token is never fed back
        raise ContextTooLong(
            f"{n_prompt} tokens and {continuation.max_new_tokens} new ones do not fit the model's {n_positions} positions"
        )
    with torch.inference_mode():
        batch = _batch(input_ids, attention_mask, token_type_ids, continuation)
        n_written = _write(model, batch, n_prompt, continuation)
    return batch.ids[:, :n_written].clone()  # an inference tensor could not go into training


def _batch(
    input_ids: Tensor, attention_mask: Tensor | None, token_type_ids: Tensor | None, continuation: Continuation
) -> _Batch:
    n_new = continuation.max_new_tokens
    ids = F.pad(input_ids, (0, n_new), value=continuation.pad_id)
    keep = positions = token_types = None
    if attention_mask is not None and not _read(attention_mask.all()):  # without padding, faster kernels serve
        keep = F.pad(attention_mask.bool(), (0, n_new), value=True)
        positions = _positions(attention_mask, n_new)
    if token_type_ids is not None:
        token_types = torch.cat((token_type_ids, token_type_ids[:, -1:].expand(-1, n_new)), dim=1)
    return _Batch(ids, keep, positions, token_types)


def _positions(attention_mask: Tensor, n_new: int) -> Tensor:
    """Counted from the first real token, 0 on padding; a prompt of padding alone counts as one token, as in transformers.

    Shapes: attention_mask (B, T), result (B, T + new).
    """
    real = attention_mask.long().cumsum(-1)
    behind = real[:, -1:].clamp(min=1) + torch.arange(n_new, device=real.device)  # (B, new)
    return torch.cat(((real - 1) * attention_mask.bool(), behind), dim=1)


def _write(model: GPTBigCodeForCausalLM, batch: _Batch, n_prompt: int, continuation: Continuation) -> int:
    """Fills the columns from `n_prompt` on until every row has ended; the number of columns that count."""
    n_batch, n_total = batch.ids.shape
    sampling = continuation.sampling
    stops = [torch.tensor(stop, device=batch.ids.device) for stop in continuation.stops]
    cache, generator = model.new_cache(n_batch), sampling.generator(batch.ids.device)
    cache.reserve(n_total - 1)
    running = torch.ones(n_batch, dtype=torch.bool, device=batch.ids.device)
    n_steps = torch.zeros((), dtype=torch.long, device=batch.ids.device)  # until the last row ended
    for end in range(n_prompt, n_total):
        logits = _logits(model, batch, slice(cache.length, end), cache)
        token_ids = sampling.choose(sampling.process(logits, batch.ids[:, :end]), generator)
        batch.ids[:, end] = torch.where(running, token_ids, continuation.pad_id)
        n_steps += running.any()
        running &= ~_ends(batch.ids[:, n_prompt : end + 1], stops)
        if stops and _all_ended(running, end - n_prompt):
            break
    return n_prompt + _read(n_steps)


def _logits(model: GPTBigCodeForCausalLM, batch: _Batch, new: slice, cache: KVCache) -> Tensor:
    """The scores of what follows the new columns, in float32, padding ids out. Shapes: result (B, V)."""
    output = model(
        batch.ids[:, new],
        None if batch.keep is None else batch.keep[:, : new.stop],
        None if batch.positions is None else batch.positions[:, new],
        None if batch.token_types is None else batch.token_types[:, new],
        kv_cache=cache,
        logits_to_keep=1,
    )
    logits: Tensor = output.logits[:, -1].float()
    logits[:, model.n_used_ids :].fill_(-torch.inf)  # assigning a number would make a tensor of it on the host
    return logits


def _ends(written: Tensor, stops: list[Tensor]) -> Tensor:
    """Which rows end with a stop. Shapes: written (B, new), result (B,)."""
    ended = torch.zeros(len(written), dtype=torch.bool, device=written.device)
    for stop in stops:
        if len(stop) <= written.shape[1]:
            ended |= (written[:, -len(stop) :] == stop).all(-1)
    return ended


def _all_ended(running: Tensor, step: int) -> bool:
    """Whether no row runs; an accelerator is asked rarely."""
    is_time = running.device.type == "cpu" or step % END_CHECK_TOKENS == END_CHECK_TOKENS - 1
    return is_time and not _read(running.any())


def _read(scalar: Tensor) -> int:
    """The value; a CPU's memory is read where it lies, an accelerator's queue is waited for."""
    return int(scalar.cpu().numpy())
