"""What is set up on a GPU once the weights are there: an attention that is proven on this machine, and recorded passes.

A kernel that cannot be had or is wrong here costs speed and a line in the log, not the engine. One that faults does, for the
device then serves this process no more: an attention that is asked for by name keeps fused kernels out.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from subprocess import SubprocessError

import torch
from torch import Tensor

from engine.appending import PAGE_TOKENS, MaskedAppending, NewRows
from engine.attention import Attention, EagerAttention, SdpaAttention
from engine.backends import make_appending
from engine.fim import Ids
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
N_TIMED, N_REPEATED = 20, 20
OVERLAPPING = (9, 0), (12, 0)  # capabilities, the last one left out, where a kernel can be launched while another runs
# As where there is no C compiler; Triton asserts that there is a driver's library.
KERNEL_ERRORS = (RuntimeError, ImportError, OSError, SubprocessError, AssertionError)


def set_up(model: GPTBigCodeForCausalLM, record: Recorder = record_cuda_graph, *, may_fuse: bool = True) -> Stepper:
    """How the model is to be run; replaces its attention where that fails. Without `may_fuse` that attention serves always."""
    if model.device.type == "cuda":
        torch.cuda.set_device(model.device)  # streams and graphs are made on the current one
    never_plan()
    replace_unfit(model)
    try:
        static = StaticDecoder(model, operators(model), record)
        if may_fuse and model.device.type == "cuda":
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
    first, last = OVERLAPPING
    overlaps = not torch.version.hip and first <= torch.cuda.get_device_capability(device) < last
    return (*((partial(fused, overlaps=True),) if overlaps else ()), fused)


def choose_forward(static: StaticDecoder, ways: Sequence[MakeForward]) -> None:
    """Has the decoder take the first of other ways that can be had, agrees with its own on this machine, and is faster."""
    plain, prompt = static.forward, _Prompt.random(static.model)
    wanted, plain_ms = _scores(static, prompt), _token_ms(static, prompt)
    log.info("trying fused kernels for passes of a few rows; for the first time on a machine that takes some seconds")
    for make in ways:
        try:
            static.use(make(static.model))
            static.warm_up()  # a way that lacks one shape is none
            why_not = _why_wrong(static, prompt, wanted)
            ms = _token_ms(static, prompt)
        except (*KERNEL_ERRORS, ValueError) as error:
            why_not = f"{type(error).__name__}: {error}".splitlines()[0]
        if why_not is None and ms > plain_ms:
            why_not = f"they take {ms:.2f} ms a token here, the operators {plain_ms:.2f}"
        if why_not is None:
            log.info("passes of a few rows are %s: %.2f ms a token, torch's operators %.2f", static.forward.name, ms, plain_ms)
            return
        log.warning("passes of a few rows do not take fused kernels: %s", why_not)
    static.use(plain)


@dataclass(frozen=True, slots=True)
class _Prompt:
    """What a way is tried behind."""

    ids: Ids
    kv: KVCache

    @classmethod
    @torch.inference_mode()
    def random(cls, model: GPTBigCodeForCausalLM) -> _Prompt:
        """Keys and values that the model makes: others may be larger than its activations can bear."""
        n_tokens, generator = min(TRIAL_TOKENS, model.config.n_positions // 2), torch.Generator().manual_seed(0)
        ids, kv = torch.randint(model.n_used_ids, (1, n_tokens), generator=generator), model.new_cache()
        model(ids.to(model.device), kv_cache=kv, logits_to_keep=1)
        return cls(tuple(ids[0].tolist()), kv)


def _scores(static: StaticDecoder, prompt: _Prompt) -> list[Tensor]:
    """Behind the last of a few rows, in every shape that is tried."""
    scores = []
    for n_sequences, n_rows in TRIAL_SHAPES:
        static.load([prompt.kv.branch(prompt.kv.length // (idx + 1)) for idx in range(n_sequences)])
        launched = static.launch([prompt.ids[idx : idx + n_rows] for idx in range(n_sequences)], forced=True)
        scores.append(launched.logits.to("cpu", copy=True))
    return scores


def _token_ms(static: StaticDecoder, prompt: _Prompt) -> float:
    """Milliseconds that a token takes where one follows the other."""
    static.load([prompt.kv])
    static.launch([prompt.ids[:1]]).read()
    started_s = time.perf_counter()
    for _ in range(N_TIMED):
        launched = static.launch([(LAST_PICK,)])
    launched.read()
    return (time.perf_counter() - started_s) * 1000 / N_TIMED


def _why_wrong(static: StaticDecoder, prompt: _Prompt, wanted: list[Tensor]) -> str | None:
    """What speaks against the scores of the decoder's way; it adds in one order, so a race shows in any bit that changes."""
    got = _scores(static, prompt)
    for one, other in zip(got, wanted, strict=True):
        error = float((one - other).abs().max() / other.abs().max())
        if not error <= MAX_PASS_ERRORS[static.model.dtype]:  # which NaN is not
            return f"their scores are {error:.1e} off"
    for _ in range(N_REPEATED):
        if not all(map(torch.equal, got, _scores(static, prompt))):
            return "their scores are not the same every time"
    return None


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
