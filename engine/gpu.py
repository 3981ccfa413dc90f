"""What is set up on a GPU once the weights are there: an attention that is proven on this machine, and recorded passes.

A kernel that fails or is wrong here costs speed and a line in the log, never the engine.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from subprocess import SubprocessError

import torch
from torch import Tensor

from engine.appending import PAGE_TOKENS, MaskedAppending, NewRows
from engine.attention import Attention, EagerAttention, SdpaAttention
from engine.backends import make_appending
from engine.graphs import LAST_PICK, Recorder, StaticDecoder, record_cuda_graph
from engine.heads import GPTBigCodeForCausalLM
from engine.kv_cache import KVCache
from engine.static_forward import OperatorForward, StaticForward
from engine.steps import EagerStepper, GraphStepper, Stepper

MakeForward = Callable[[GPTBigCodeForCausalLM], StaticForward]

log = logging.getLogger(__name__)

MAX_ERROR = 2e-2  # relative, of half precision
TRIALS = ((1, 300), (5, 300), (300, 0))  # new rows, cached ones
MAX_PASS_ERRORS = {torch.float16: 5e-2, torch.bfloat16: 2e-1, torch.float32: 1e-3}  # as roundings grow through all layers
TRIAL_SHAPES = ((1, 1), (1, 16), (4, 1))  # sequences, rows of each
TRIAL_TOKENS = 1000  # cached
N_TIMED = 20
OVERLAP_CAPABILITY = (9, 0)  # from which on a kernel can be launched before the one ahead of it has ended
KERNEL_ERRORS = (RuntimeError, ImportError, OSError, SubprocessError)  # as where there is no C compiler


def set_up(model: GPTBigCodeForCausalLM, record: Recorder = record_cuda_graph) -> Stepper:
    """How the model is to be run; replaces its attention where that fails."""
    if model.device.type == "cuda":
        torch.cuda.set_device(model.device)  # streams and graphs are made on the current one
    never_plan()
    replace_unfit(model)
    try:
        static = StaticDecoder(model, operators(model), record)
        if model.device.type == "cuda":
            choose_forward(static, fused_ways(model.device))
        static.warm_up()
    except RuntimeError as error:
        log.warning("decoding is not recorded as CUDA graphs, every kernel is launched by itself: %s", error)
        return EagerStepper(model)
    return GraphStepper(model, static)


def operators(model: GPTBigCodeForCausalLM) -> OperatorForward:
    """The way through the model by torch's operators and the model's attention."""
    return OperatorForward(model, make_appending(model.transformer.attention, model.config))


def fused(model: GPTBigCodeForCausalLM, *, overlaps: bool = False) -> StaticForward:
    """The way through the model by kernels of our own.

    Raises: ImportError where Triton is missing, which only CUDA builds of torch bring; ValueError where the model's widths are
    none of theirs.
    """
    from engine.fused_forward import FusedForward

    return FusedForward(model, overlaps=overlaps)


def fused_ways(device: torch.device) -> tuple[MakeForward, ...]:
    """Ours that the device may take, the one that should be fastest first."""
    overlaps = not torch.version.hip and torch.cuda.get_device_capability(device) >= OVERLAP_CAPABILITY
    return (*((partial(fused, overlaps=True),) if overlaps else ()), fused)


def choose_forward(static: StaticDecoder, ways: Sequence[MakeForward]) -> None:
    """Has the decoder take the first of other ways that can be had, agrees with its own on this machine, and is faster."""
    plain = static.forward
    wanted, plain_ms = _trial(static)
    log.info("trying fused kernels for passes of a few rows; for the first time on a machine that takes some seconds")
    for make in ways:
        try:
            static.use(make(static.model))
            got, ms = _trial(static)
            why_not = _why_wrong(got, wanted, MAX_PASS_ERRORS[static.model.dtype])
            if why_not is None and ms > plain_ms:
                why_not = f"they take {ms:.2f} ms a token here, the operators {plain_ms:.2f}"
        except (*KERNEL_ERRORS, ValueError) as error:
            why_not = f"{type(error).__name__}: {error}".splitlines()[0]
        if why_not is None:
            log.info("passes of a few rows are %s: %.2f ms a token, torch's operators %.2f", static.forward.name, ms, plain_ms)
            return
        log.warning("passes of a few rows do not take fused kernels: %s", why_not)
    static.use(plain)


def _trial(static: StaticDecoder) -> tuple[list[Tensor], float]:
    """Scores of passes over random rows behind random ones, and the milliseconds that one of a single row takes."""
    cache, scores = _random_cache(static.model), []
    for n_sequences, n_rows in TRIAL_SHAPES:
        static.load([cache.branch(cache.length // (idx + 1)) for idx in range(n_sequences)])
        ids = [tuple(range(idx, idx + n_rows)) for idx in range(n_sequences)]
        scores.append(static.launch(ids, forced=True).logits.cpu())
    static.load([cache])
    static.launch([(0,)]).read()
    started_s = time.perf_counter()
    for _ in range(N_TIMED):
        launched = static.launch([(LAST_PICK,)])
    launched.read()
    return scores, (time.perf_counter() - started_s) * 1000 / N_TIMED


def _random_cache(model: GPTBigCodeForCausalLM) -> KVCache:
    cache = model.new_cache()
    shape, n_tokens = cache.shape, min(TRIAL_TOKENS, model.config.n_positions // 2)
    generator = torch.Generator(shape.device).manual_seed(0)
    size = (shape.n_layer, 1, shape.n_kv_head, n_tokens, 2 * shape.head_dim)
    cache.extend(torch.empty(size, dtype=shape.dtype, device=shape.device).normal_(generator=generator))
    return cache


def _why_wrong(got: list[Tensor], wanted: list[Tensor], bound: float) -> str | None:
    errors = [float((one - other).abs().max() / other.abs().max()) for one, other in zip(got, wanted, strict=True)]
    wrong = next((error for error in errors if not error <= bound), None)  # which NaN is not
    return None if wrong is None else f"their scores are {wrong:.1e} off"


def replace_unfit(model: GPTBigCodeForCausalLM) -> None:
    """Puts sdpa in place of an attention that fails on the model's device or is not the reference there."""
    reason = why_unfit(model.transformer.attention, model)
    if reason is not None:
        log.warning("attention %s is not used: %s; sdpa serves instead", model.transformer.attention.name, reason)
        model.transformer.attention = SdpaAttention(model.config)


def never_plan() -> None:
    """Takes cuDNN's attention from those that SDPA may choose: it is planned anew for every length, for tenths of a second."""
    torch.backends.cuda.enable_cudnn_sdp(False)


@torch.inference_mode()
def why_unfit(attention: Attention, model: GPTBigCodeForCausalLM) -> str | None:
    """What speaks against an attention on the model's device: it fails, or is not the reference; None where nothing does."""
    config, like = model.config, model.transformer.wte.weight
    eager, generator = EagerAttention(config), torch.Generator(like.device).manual_seed(0)
    for n_new, n_cached in TRIALS:
        q = like.new_zeros(1, n_new, config.n_head, config.head_dim).normal_(generator=generator)
        kv = like.new_zeros(1, config.n_kv_head, n_new + n_cached, 2 * config.head_dim).normal_(generator=generator)
        static = like.new_zeros(1, 2 * PAGE_TOKENS, config.n_kv_head, kv.shape[-1])
        static[:, :n_cached] = kv[:, :, :n_cached].transpose(1, 2)
        rows = NewRows(torch.tensor([n_cached], device=like.device), n_new, static.shape[1])
        wide = q.float().cpu(), kv.float().cpu()  # on the device the reference would be compiled first
        wanted = eager(*wide, eager.prepare(n_new, n_cached, None, wide[0]), layer_idx=0, dropout_p=0.0)
        try:
            results = [attention(q, kv, attention.prepare(n_new, n_cached, None, q), layer_idx=0, dropout_p=0.0)]
            appending = make_appending(attention, config)
            if not isinstance(appending, MaskedAppending):
                results.append(appending.append(q, kv[:, :, n_cached:], static, rows, layer_idx=0))
        except (RuntimeError, TypeError, NotImplementedError) as error:  # other releases have other signatures
            return f"{type(error).__name__}: {error}".splitlines()[0]
        worst = max(float((result.float().cpu() - wanted).abs().max() / wanted.abs().max()) for result in results)
        if not worst <= MAX_ERROR:  # which NaN is not
            return f"its result is {worst:.1e} off the reference's for {n_new} new rows behind {n_cached}"
    return None
