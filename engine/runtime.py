"""Where and how the model runs: device, dtype and attention with the reason for each choice; loading and warm-up."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass

import torch

from engine.allowance import Allowance
from engine.api import EngineError, EngineOptions, Request
from engine.attention import choose_attention
from engine.cache_pool import CachePool
from engine.decoder import Decoder
from engine.heads import GPTBigCodeForCausalLM
from engine.jobs import Job
from engine.model_files import model_folder
from engine.tokenizer import Tokenizer
from engine.weights import Progress

log = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
CACHE_SHARE = 0.25  # of free memory, where the user set no budget


@dataclass(frozen=True, slots=True)
class Placement:
    """The choices made, in the user's words, and why."""

    device: torch.device
    dtype: torch.dtype
    attention: str
    reason: str

    @property
    def dtype_name(self) -> str:
        """The dtype as the settings spell it."""
        return str(self.dtype).removeprefix("torch.")


@dataclass(frozen=True, slots=True)
class Runtime:
    """A loaded model, ready to answer."""

    model: GPTBigCodeForCausalLM
    decoder: Decoder
    name: str
    placement: Placement


def place(options: EngineOptions) -> Placement:
    """Chooses device, dtype and attention.

    Raises: EngineError where a choice of the user's cannot be had; the message says what can.
    """
    device, why_device = _device(options.device)
    if options.dtype == "auto":
        dtype, why_dtype = (
            (torch.float16, "half the memory traffic") if device.type != "cpu" else (torch.float32, "no faster one")
        )
    elif options.dtype in DTYPES:
        dtype, why_dtype = DTYPES[options.dtype], "asked for"
    else:
        raise EngineError(f"dtype {options.dtype!r} is none of auto, {', '.join(DTYPES)}")
    attention, why_attention = choose_attention(options.attention, dtype, device)
    name = str(dtype).removeprefix("torch.")
    return Placement(device, dtype, attention, f"{device}: {why_device}; {name}: {why_dtype}; {attention}: {why_attention}")


def load(options: EngineOptions, progress: Progress) -> Runtime:
    """Loads the model; `progress` hears the share of the weights read and may raise to abandon.

    Raises: CheckpointError, EngineError.
    """
    placement = place(options)
    log.info("running on %s", placement.reason)
    if options.n_threads is not None:
        torch.set_num_threads(options.n_threads)
    folder = model_folder(options.model)
    tokenizer = Tokenizer.from_pretrained(folder)
    model = GPTBigCodeForCausalLM.from_pretrained(
        folder,
        dtype=placement.dtype,
        attn_implementation=placement.attention,
        device=placement.device,
        progress=progress,
    )
    budget = options.budget_bytes or int(CACHE_SHARE * _free_bytes(placement.device))
    pool, background = CachePool(model.transformer.new_cache, budget), Allowance(options.background_tokens_per_min)
    decoder = Decoder(model, tokenizer, pool, background=background)
    return Runtime(model, decoder, options.model, placement)


def warm_up(runtime: Runtime) -> None:
    """Runs a request, so that the first real one pays for no lazy initialisation and the prefill rate is known."""
    request = Request(document="", prefix="def f(x):\n    return x\n" * 20, suffix="\n", max_tokens=2)
    for _ in runtime.decoder.complete(Job(request)):
        pass
    runtime.decoder.forget(request.document)


def _device(wanted: str) -> tuple[torch.device, str]:
    if wanted == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda"), "a GPU is there"
        return torch.device("cpu"), "no CUDA device"
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise EngineError(f"device {wanted!r} is none of auto, cpu, cuda, cuda:N") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise EngineError(f"device {wanted!r}: this torch sees no CUDA device; use cpu, or install a CUDA build of torch")
    return device, "asked for"


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
