"""Every attention backend and every recorded pass against the eager reference, at the published shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.appending import MaskedAppending, NewRows
from engine.attention import Attention, EagerAttention
from engine.backends import make_appending
from engine.config import GPTBigCodeConfig
from engine.graphs import LAST_PICK, StaticDecoder
from engine.heads import GPTBigCodeForCausalLM

# Relative to the largest value wanted, which is computed in float32. Half precision rounds at 2^-11 and 2^-8; a whole model
# of random weights is as wide as its layers let such roundings grow.
ATTENTION_BOUND = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}
MODEL_BOUND = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}

REFERENCE_BYTES = 1 << 32  # of the reference's scores: what is longer is looked at in chunks only

MakeAttention = Callable[[GPTBigCodeConfig], Attention]


@dataclass(frozen=True, slots=True)
class Verdict:
    """How far one result is from the reference's, and how far it may be."""

    shape: str
    backend: str
    dtype: str
    case: str
    error: float
    bound: float

    @property
    def passed(self) -> bool:
        """Whether it is near enough; NaN is not."""
        return self.error <= self.bound


def attention_verdicts(
    name: str, shape: GPTBigCodeConfig, make: MakeAttention, dtype: torch.dtype, lengths: tuple[int, ...], device: torch.device
) -> Iterator[Verdict]:
    """One layer's attention: whole prompts, chunks behind cached rows, single rows, ragged rows appended to a static cache."""
    attention, reference = make(shape), EagerAttention(shape)
    bound, dtype_name = ATTENTION_BOUND[dtype], str(dtype).removeprefix("torch.")
    for n_keys in lengths:
        for n_new in sorted({1, 2, 16, n_keys // 3 + 1, n_keys}):
            if n_new > n_keys or n_new * n_keys * shape.n_head * 4 > REFERENCE_BYTES:
                continue
            q, kv = _inputs(shape, n_new, n_keys, dtype, device)
            with torch.compiler.set_stance("force_eager"):
                wanted = _attend(reference, q.float(), kv.float())
            got = _attend(attention, q, kv)
            yield Verdict(name, attention.name, dtype_name, f"{n_new} of {n_keys}", _error(got, wanted), bound)
    capacity = (max(lengths) // 256 + 1) * 256
    cached = [length - 1 for length in lengths][:4]
    for n_new in (1, 2, 9, 16):
        q, new = _inputs(shape, n_new, n_new, dtype, device, len(cached))
        static = torch.randn(len(cached), capacity, *_kv_size(shape), device=device).to(dtype)
        rows = NewRows(torch.tensor(cached, device=device), n_new, capacity)
        with torch.compiler.set_stance("force_eager"):
            wanted = MaskedAppending(shape).append(q.float(), new.float(), static.float(), rows, layer_idx=0)
        got = make_appending(attention, shape).append(q, new, static, rows, layer_idx=0)
        yield Verdict(name, attention.name, dtype_name, f"{n_new} behind {cached}", _error(got, wanted), bound)


@torch.inference_mode()
def model_verdicts(name: str, backend: str, static: StaticDecoder, n_tokens: int) -> Iterator[Verdict]:
    """The whole model's logits: one pass as the reference, prompts in chunks, cached = uncached, recorded passes."""
    model = static.model
    config, fast = model.config, model.transformer.attention
    dtype_name, bound = str(model.dtype).removeprefix("torch."), MODEL_BOUND[model.dtype]
    n_tokens = min(n_tokens, config.n_positions)
    ids = torch.randint(config.vocab_size, (1, n_tokens), device=model.device)
    model.transformer.attention = EagerAttention(config)
    with torch.compiler.set_stance("force_eager"):
        wanted = model(ids).logits[0, -1]
    model.transformer.attention = fast
    for n_chunk in (n_tokens, 256, 37):
        cache = model.new_cache()
        for start in range(0, n_tokens, n_chunk):
            logits = model(ids[:, start : start + n_chunk], kv_cache=cache, logits_to_keep=1).logits[0, -1]
        yield Verdict(name, backend, dtype_name, f"in chunks of {n_chunk}", _error(logits, wanted), bound)
    for n_forced in (1, 7, 16):
        static.load([cache.branch(n_tokens - n_forced)])
        launched = static.launch([tuple(ids[0, -n_forced:].tolist())], forced=True)
        launched.read()
        error = _error(launched.logits[0], wanted[: model.n_used_ids])
        yield Verdict(name, backend, dtype_name, f"recorded, the last {n_forced}", error, bound)
    error = _lockstep_error(model, static, ids)
    yield Verdict(name, backend, dtype_name, "recorded, ragged side by side", error, bound)


def _lockstep_error(model: GPTBigCodeForCausalLM, static: StaticDecoder, ids: Tensor) -> float:
    """Three prompts of different lengths, three passes: the logits beside a pass over each whole text."""
    n_most = ids.shape[1] - 3
    texts = [ids[0, : max(n_most // part, 2)].tolist() for part in (1, 2, 3)]
    caches = []
    for text in texts:
        caches.append(model.new_cache())
        model(torch.tensor([text[:-1]], device=model.device), kv_cache=caches[-1])
    static.load(caches)
    launched = static.launch([(text[-1],) for text in texts])
    for _ in range(2):
        for text, picks in zip(texts, launched.read(), strict=False):
            text += picks.token_ids
        launched = static.launch([(LAST_PICK,)] * len(texts))
    launched.read()
    wanted = [model(torch.tensor([text], device=model.device)).logits[0, -1, : model.n_used_ids] for text in texts]
    return max(_error(got, each) for got, each in zip(launched.logits, wanted, strict=False))


def _inputs(
    shape: GPTBigCodeConfig, n_new: int, n_keys: int, dtype: torch.dtype, device: torch.device, n_batch: int = 1
) -> tuple[Tensor, Tensor]:
    """Queries, and a view of a cache with room behind it. Shapes: q (B, T, H, D), kv (B, K, S, 2 * D)."""
    torch.manual_seed(n_new + n_keys)
    q = torch.randn(n_batch, n_new, shape.n_head, shape.head_dim, device=device).to(dtype)
    n_kv_head, width = _kv_size(shape)
    kv = torch.randn(n_batch, n_kv_head, n_keys + 64, width, device=device).to(dtype)
    return q, kv[:, :, :n_keys]


def _kv_size(shape: GPTBigCodeConfig) -> tuple[int, int]:
    return shape.n_kv_head, 2 * shape.head_dim


@torch.inference_mode()
def _attend(attention: Attention, q: Tensor, kv: Tensor) -> Tensor:
    mask = attention.prepare(q.shape[1], kv.shape[2] - q.shape[1], None, q)
    return attention(q, kv, mask, layer_idx=3, dropout_p=0.0)


def _error(got: Tensor, wanted: Tensor) -> float:
    return float((got.float() - wanted.float()).abs().max() / wanted.float().abs().max())
