"""Where and how the model runs: device, dtype and attention with the reason for each choice; loading and warm-up."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from engine import gpu
from engine.allowance import Allowance
from engine.api import EngineError, EngineOptions, Request
from engine.backends import choose_attention
from engine.cache_pool import CachePool
from engine.cores import n_physical_cores
from engine.decoder import Decoder
from engine.heads import GPTBigCodeForCausalLM
from engine.int8_linear import quantize_layers
from engine.jobs import Job
from engine.model_files import model_folder
from engine.native.library import NoKernels, load_library
from engine.quantized_model import QuantizedForCausalLM
from engine.recall import RecallWeights
from engine.tokenizer import Tokenizer
from engine.weights import Progress

log = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "int8": torch.int8}
NATIVE = "native"  # the attention of the int8 kernels
INT8_BESIDE = torch.float16  # what is not in int8 on a GPU: activations, caches, embeddings
CACHE_SHARE = 0.25  # of free memory, where the user set no budget
ASSUMED_FREE_BYTES = 4 << 30


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

    model: GPTBigCodeForCausalLM | QuantizedForCausalLM
    decoder: Decoder
    name: str
    placement: Placement


def place(options: EngineOptions) -> Placement:
    """Chooses device, dtype and attention.

    Raises: EngineError where a choice of the user's cannot be had; the message says what can.
    """
    device, why_device = _device(options.device)
    dtype, why_dtype = _dtype(options, device)
    if dtype is torch.int8 and device.type == "cpu":
        attention, why_attention = NATIVE, "the int8 kernels' own"
    else:
        attention, why_attention = choose_attention(options.attention, INT8_BESIDE if dtype is torch.int8 else dtype, device)
    name = str(dtype).removeprefix("torch.")
    return Placement(device, dtype, attention, f"{device}: {why_device}; {name}: {why_dtype}; {attention}: {why_attention}")


def load(options: EngineOptions, progress: Progress) -> Runtime:
    """Loads the model; `progress` hears the share of the weights read and may raise to abandon.

    Raises: CheckpointError, EngineError.
    """
    placement = place(options)
    log.info("running on %s", placement.reason)
    folder = model_folder(options.model)
    tokenizer = Tokenizer.from_pretrained(folder)
    model = _load_model(folder, options.n_threads, placement, progress)
    stepper = None
    if placement.device.type == "cuda" and isinstance(model, GPTBigCodeForCausalLM):
        stepper = gpu.set_up(model, may_fuse=options.attention == "auto")
        placement = replace(placement, attention=model.transformer.attention.name)
    budget = options.budget_bytes or int(CACHE_SHARE * _free_bytes(placement.device))
    pool, background = CachePool(model.new_cache, budget), Allowance(options.background_tokens_per_min)
    recall = RecallWeights.from_folder(folder)
    decoder = Decoder(model, tokenizer, pool, recall=recall, background=background, stepper=stepper)
    return Runtime(model, decoder, options.model, placement)


def warm_up(runtime: Runtime) -> None:
    """Runs a request, so that the first real one pays for no lazy initialisation and the prefill rate is known."""
    request = Request(document="", prefix="def f(x):\n    return x\n" * 20, suffix="\n", max_tokens=2)
    for _ in runtime.decoder.complete(Job(request)):
        pass
    runtime.decoder.forget(request.document)


def _load_model(
    folder: Path, n_threads: int | None, placement: Placement, progress: Progress
) -> GPTBigCodeForCausalLM | QuantizedForCausalLM:
    if placement.attention == NATIVE:
        torch.set_num_threads(1)  # all that is left to torch is the sampling of one row
        return QuantizedForCausalLM.from_pretrained(folder, n_threads=n_threads or n_physical_cores(), progress=progress)
    if n_threads is not None:
        torch.set_num_threads(n_threads)
    in_int8 = placement.dtype is torch.int8
    model = GPTBigCodeForCausalLM.from_pretrained(
        folder,
        dtype=INT8_BESIDE if in_int8 else placement.dtype,
        attn_implementation=placement.attention,
        device=None if in_int8 else placement.device,  # which may lack the memory for what is not in int8 yet
        progress=progress,
    )
    if in_int8:
        quantize_layers(model)
    return model.to(placement.device)


def _dtype(options: EngineOptions, device: torch.device) -> tuple[torch.dtype, str]:
    wants_int8 = options.dtype == "int8" or (options.dtype == "auto" and device.type == "cpu")
    why_not = _why_no_int8(options, device) if wants_int8 else None
    if options.dtype == "auto":
        if device.type != "cpu":
            return torch.float16, "half the memory traffic"
        return (
            (torch.int8, "a quarter of the memory traffic")
            if why_not is None
            else (torch.float32, f"int8 cannot be: {why_not}")
        )
    if options.dtype not in DTYPES:
        raise EngineError(f"dtype {options.dtype!r} is none of auto, {', '.join(DTYPES)}")
    if why_not is not None:
        raise EngineError(f"dtype 'int8': {why_not}")
    return DTYPES[options.dtype], "asked for"


def _why_no_int8(options: EngineOptions, device: torch.device) -> str | None:
    if device.type == "cuda":
        return None
    if device.type != "cpu":
        return "it runs on the CPU and on CUDA devices; take dtype float16, or device cpu"
    if options.attention not in ("auto", NATIVE):
        return f"its kernels have an attention of their own, not {options.attention!r}; take attention auto, or dtype float32"
    try:
        load_library()
    except NoKernels as error:
        return f"{error}; install gcc or clang, or take dtype float32"
    return None


def _device(wanted: str) -> tuple[torch.device, str]:
    if wanted == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda"), "a GPU is there"
        return torch.device("cpu"), "no CUDA device"
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise EngineError(f"device {wanted!r} is none of auto, cpu, cuda, cuda:N, mps") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise EngineError(f"device {wanted!r}: this torch sees no CUDA device; use cpu, or install a CUDA build of torch")
    return device, "asked for"


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError):  # Windows and macOS do not say
        return ASSUMED_FREE_BYTES
