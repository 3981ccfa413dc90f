"""Which attention serves: the choice with its reason, and the backend made for a model."""

from __future__ import annotations

import torch

from engine.api import EngineError
from engine.appending import AppendingAttention, MaskedAppending
from engine.attention import BACKENDS, Attention
from engine.config import GPTBigCodeConfig
from engine.flash_attention import FlashAttention, TorchFlashAttention, choose_flash, why_no_flash

FLASH = "flash_attention_2"  # transformers' name for both
FLASH_BACKENDS: dict[str, type[FlashAttention] | type[TorchFlashAttention]] = {
    FlashAttention.name: FlashAttention,
    TorchFlashAttention.name: TorchFlashAttention,
}
NAMES = ("auto", *BACKENDS, FLASH, *FLASH_BACKENDS)


def choose_attention(name: str, dtype: torch.dtype, device: torch.device | None) -> tuple[str, str]:
    """The backend for a name that may be `auto`, and why.

    `device` None means that the model may yet be moved. `auto` always finds one.
    Raises: EngineError where the one asked for cannot be had; the message says what to do.
    """
    if name not in NAMES:
        raise EngineError(f"attention {name!r} is none of {', '.join(NAMES)}")
    if name in BACKENDS:
        return name, "asked for"
    reasons = why_no_flash(dtype, device)
    flash, why_flash = choose_flash()
    if name == "auto":
        on_gpu = device is not None and device.type == "cuda"
        return (flash, why_flash) if on_gpu and not reasons else ("sdpa", "torch's fused kernels")
    if flash != FlashAttention.name and (name == FlashAttention.name or (name == FLASH and reasons)):
        reasons.append("the flash-attn package is not installed, `pip install 'midfill[flash]'` does that")
    if reasons:
        raise EngineError(f"attention {name!r}: {'; '.join(reasons)}; 'sdpa' works everywhere")
    return (flash, why_flash) if name == FLASH else (name, "asked for")


def make_attention(name: str, config: GPTBigCodeConfig) -> Attention:
    """The backend of that name for a model of this config.

    Raises: EngineError where its kernels do not take the model's heads.
    """
    backend = FLASH_BACKENDS.get(name) or BACKENDS[name]
    return backend(config)


def make_appending(attention: Attention, config: GPTBigCodeConfig) -> AppendingAttention:
    """What attends in passes of a fixed shape: the backend itself where it can append, else the reference."""
    return attention if isinstance(attention, FlashAttention | TorchFlashAttention) else MaskedAppending(config)
