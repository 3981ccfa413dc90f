"""What is set up on a GPU once the weights are there: an attention that is proven on this machine, and recorded passes.

A kernel that fails or is wrong here costs speed and a line in the log, never the engine.
"""

from __future__ import annotations

import logging

import torch

from engine.appending import PAGE_TOKENS, MaskedAppending, NewRows
from engine.attention import Attention, EagerAttention, SdpaAttention
from engine.backends import make_appending
from engine.graphs import Recorder, StaticDecoder, record_cuda_graph
from engine.heads import GPTBigCodeForCausalLM
from engine.steps import EagerStepper, GraphStepper, Stepper

log = logging.getLogger(__name__)

MAX_ERROR = 2e-2  # relative, of half precision
TRIALS = ((1, 300), (5, 300), (300, 0))  # new rows, cached ones


def set_up(model: GPTBigCodeForCausalLM, record: Recorder = record_cuda_graph) -> Stepper:
    """How the model is to be run; replaces its attention where that fails."""
    if model.device.type == "cuda":
        torch.cuda.set_device(model.device)  # streams and graphs are made on the current one
    never_plan()
    replace_unfit(model)
    try:
        static = StaticDecoder(model, make_appending(model.transformer.attention, model.config), record)
        static.warm_up()
    except RuntimeError as error:
        log.warning("decoding is not recorded as CUDA graphs, every kernel is launched by itself: %s", error)
        return EagerStepper(model)
    return GraphStepper(model, static)


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
