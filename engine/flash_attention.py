"""FlashAttention-2 over the fused cache: from the flash-attn package, or the one that torch carries.

Both take the strided halves of the cache uncopied and one key/value head for all queries; float16 and bfloat16 only. Padded
batches, which the kernels do not know, go to `SdpaAttention`. Source: Dao 2023, arXiv:2307.08691.
"""

from __future__ import annotations

import importlib
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from engine.api import EngineError
from engine.appending import PAGE_TOKENS, NewRows, store_rows
from engine.attention import SdpaAttention
from engine.config import GPTBigCodeConfig

MIN_CAPABILITY = (8, 0)
MAX_HEAD_DIM, HEAD_DIM_STEP = 256, 8
HALVES = (torch.float16, torch.bfloat16)

Kernel = Callable[..., Tensor]
Forward = Callable[..., tuple[Tensor, ...]]


@dataclass(frozen=True, slots=True)
class FlashKernels:
    """What the flash-attn package is asked for, under its own names."""

    flash_attn_func: Kernel
    flash_attn_with_kvcache: Kernel

    @classmethod
    def load(cls) -> FlashKernels:
        """The installed package's."""
        package = importlib.import_module("flash_attn")
        return cls(package.flash_attn_func, package.flash_attn_with_kvcache)


class _Flash(ABC):
    """What both have in common: when they cannot serve, and who does then."""

    name: str

    def __init__(self, config: GPTBigCodeConfig, *, window: int | None = None) -> None:
        """`window`: how many keys a row sees at most, itself included; None for all."""
        if config.head_dim > MAX_HEAD_DIM or config.head_dim % HEAD_DIM_STEP:
            raise EngineError(
                f"attention {self.name!r} takes heads of up to {MAX_HEAD_DIM} numbers, a multiple of {HEAD_DIM_STEP}; "
                f"the model's have {config.head_dim}; 'sdpa' works everywhere"
            )
        self.scale = config.head_dim**-0.5 if config.scale_attn_weights else 1.0
        self._n_left = -1 if window is None else window - 1  # keys that a row sees before itself, as the kernels count
        self._sdpa = SdpaAttention(config)

    def prepare(self, n_new: int, n_cached: int, keep: Tensor | None, like: Tensor) -> Tensor | None:
        """Nothing without padding: the kernel is causal by itself, bottom-right."""
        if like.dtype not in HALVES:
            raise EngineError(f"attention {self.name!r} takes no {like.dtype}; cast the model to float16 or bfloat16 first")
        if keep is None:
            return None
        if self._n_left >= 0:
            raise EngineError(f"attention {self.name!r} takes no window beside padding")
        return self._sdpa.prepare(n_new, n_cached, keep, like)

    def __call__(self, q: Tensor, kv: Tensor, mask: Tensor | None, *, layer_idx: int, dropout_p: float) -> Tensor:
        """Attends with the kernel, or with `SdpaAttention` beside padding; see `Attention`."""
        if mask is not None:
            return self._sdpa(q, kv, mask, layer_idx=layer_idx, dropout_p=dropout_p)
        key, value = _halves(kv.transpose(1, 2))  # (B, S, K, D) each
        return self._attend(q, key, value, dropout_p).flatten(2)

    @abstractmethod
    def _attend(self, q: Tensor, key: Tensor, value: Tensor, dropout_p: float) -> Tensor:
        """Causal attention. Shapes: q and result (B, T, H, D), key and value (B, S, K, D)."""


class FlashAttention(_Flash):
    """The flash-attn package's kernels; new rows are appended to the cache by the kernel itself."""

    name = "flash_attn"

    def __init__(self, config: GPTBigCodeConfig, kernels: FlashKernels | None = None, *, window: int | None = None) -> None:
        super().__init__(config, window=window)
        self._kernels = kernels or FlashKernels.load()
        self._options: dict[str, Any] = {"softmax_scale": self.scale, "causal": True, "window_size": (self._n_left, -1)}

    def append(self, q: Tensor, new: Tensor, kv: Tensor, rows: NewRows, *, layer_idx: int) -> Tensor:
        """Attends with `flash_attn_with_kvcache`, which stores the new rows; see `AppendingAttention`."""
        key, value = _halves(new.transpose(1, 2))  # (B, T, K, D) each
        mixed = self._kernels.flash_attn_with_kvcache(q, *_halves(kv), key, value, cache_seqlens=rows.n_cached, **self._options)
        return mixed.flatten(2)

    def _attend(self, q: Tensor, key: Tensor, value: Tensor, dropout_p: float) -> Tensor:
        return self._kernels.flash_attn_func(q, key, value, dropout_p=dropout_p, **self._options)


class TorchFlashAttention(_Flash):
    """torch's own FlashAttention-2, asked for by its operator.

    SDPA would rather take cuDNN's kernels on some devices, which are planned anew for every length, and has no bottom-right
    causality; `varlen_attn` splits no keys among the device's processors, and is one call per sequence.
    """

    name = "torch_flash"

    def __init__(
        self,
        config: GPTBigCodeConfig,
        forward: Forward | None = None,
        *,
        is_paged: bool | None = None,
        window: int | None = None,
    ) -> None:
        """`is_paged`: whether the operator takes tables of pages; None for what this release of torch has."""
        super().__init__(config, window=window)
        self._forward = forward or torch.ops.aten._flash_attention_forward.default
        self._is_paged = takes_pages() if is_paged is None else is_paged
        self._options: dict[str, Any] = {"scale": self.scale, "window_size_left": self._n_left, "window_size_right": -1}

    def append(self, q: Tensor, new: Tensor, kv: Tensor, rows: NewRows, *, layer_idx: int) -> Tensor:
        """Stores the new rows and attends; see `AppendingAttention`. Only keys in pages are shared out among processors."""
        store_rows(kv, new, rows)
        n_batch, n_new = q.shape[:2]
        n_most = kv.shape[1]  # not the keys in use: a graph's kernels are chosen once
        cached = kv.view(-1, PAGE_TOKENS, *kv.shape[2:]) if self._is_paged else kv.flatten(0, 1)
        table = {"block_table": rows.pages} if self._is_paged else {}
        ends = rows.offsets, rows.key_offsets  # of pages the latter only because one without the other is refused
        mixed = self._call(q.flatten(0, 1), *_halves(cached), *ends, n_new, n_most, 0.0, seqused_k=rows.n_keys, **table)
        return mixed.view(n_batch, n_new, -1)

    def _attend(self, q: Tensor, key: Tensor, value: Tensor, dropout_p: float) -> Tensor:
        return self._call(q, key, value, None, None, q.shape[1], key.shape[1], dropout_p)

    def _call(self, *arguments: Any, **options: Any) -> Tensor:
        return self._forward(*arguments, True, False, **self._options, **options)[0]  # causal, without a mask to debug


def _halves(fused: Tensor) -> tuple[Tensor, ...]:
    """Keys and values, uncopied. Shapes: fused (…, 2 * D), each half (…, D)."""
    return fused.chunk(2, dim=-1)


def takes_pages() -> bool:
    """Whether torch's operator knows tables of pages; that of 2.11 does not."""
    return any(argument.name == "block_table" for argument in torch.ops.aten._flash_attention_forward.default._schema.arguments)


def why_no_flash(dtype: torch.dtype, device: torch.device | None) -> list[str]:
    """What keeps any FlashAttention-2 from serving; `device` None may yet be any."""
    reasons = []
    if not torch.cuda.is_available() or torch.version.hip or (device is not None and device.type != "cuda"):
        reasons.append("it needs a CUDA device and a CUDA build of torch")
    elif (got := torch.cuda.get_device_capability(device)) < MIN_CAPABILITY:
        reasons.append(f"it needs compute capability {_dotted(MIN_CAPABILITY)}, this device has {_dotted(got)}")
    if dtype not in HALVES:
        reasons.append(f"it takes no {str(dtype).removeprefix('torch.')}, cast the model with dtype float16 or bfloat16")
    return reasons


def choose_flash() -> tuple[str, str]:
    """Which of the two serves, and why."""
    why_not = "is not installed"
    if importlib.util.find_spec("flash_attn") is not None:
        try:
            FlashKernels.load()
            return FlashAttention.name, "FlashAttention-2 of the flash-attn package, which is installed"
        except (ImportError, AttributeError, OSError) as error:  # as where it was built for another release of torch
            why_not = f"cannot be loaded: {str(error).partition(chr(10))[0]}"
    return TorchFlashAttention.name, f"torch's own FlashAttention-2, for the flash-attn package {why_not}"


def _dotted(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))
