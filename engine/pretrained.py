"""What the four model classes share: reading a model folder, writing one, and knowing where they are."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch import nn

from engine.backends import choose_attention, make_attention
from engine.config import GPTBigCodeConfig
from engine.kv_cache import KVCache
from engine.model_files import model_folder, n_used_ids
from engine.weights import FLOATS, Progress, load_weights, save_weights

if TYPE_CHECKING:
    from engine.model import GPTBigCodeModel

log = logging.getLogger(__name__)

Dtype = torch.dtype | str | None


class PretrainedModel(nn.Module, ABC):
    """A GPTBigCode with or without a head; `base` is the part that all have."""

    head: ClassVar[str | None] = None  # the module that a file for another task may lack

    def __init__(self, config: GPTBigCodeConfig) -> None:
        super().__init__()
        self.config = config
        self.n_used_ids = config.vocab_size  # ids from here on are padding of the embedding, and never chosen

    @property
    @abstractmethod
    def base(self) -> GPTBigCodeModel:
        """The transformer; itself where there is no head."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.base.wte.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are."""
        return self.base.wte.weight.dtype

    def new_cache(self, n_batch: int = 1) -> KVCache:
        """An empty cache that fits this model."""
        return self.base.new_cache(n_batch)

    def tie_weights(self) -> None:
        """Makes one parameter of two where the config asks for it."""

    def gradient_checkpointing_enable(self) -> None:
        """Keeps no activations of the layers in training, and computes them again on the way back."""
        self.base.gradient_checkpointing = True

    def gradient_checkpointing_disable(self) -> None:
        """Keeps the activations again."""
        self.base.gradient_checkpointing = False

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        dtype: Dtype = None,
        torch_dtype: Dtype = None,
        attn_implementation: str = "auto",
        device: torch.device | str | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Loads a folder or a downloaded hub model, ready to run; nothing is ever downloaded.

        `dtype` (or `torch_dtype`, its older name) None or "auto" keeps the checkpoint's; `attn_implementation` is
        auto, eager, sdpa or flash_attention_2; `device` None is the CPU, from which `.to` moves on. A head that the
        files lack, but for the language model's, is drawn anew, with a warning.
        Raises: CheckpointError naming file, key, got and wanted shape; EngineError where the attention cannot be had.
        """
        folder = model_folder(str(name))
        config = GPTBigCodeConfig.from_pretrained(folder)
        with torch.device("meta"):
            model = cls(config)
        place = torch.device("cpu" if device is None else device)
        wanted = _dtype(dtype if dtype is not None else torch_dtype)
        missing = load_weights(model, folder, config, dtype=wanted, device=place, progress=progress)
        if missing:
            log.warning("%s: holds no %s; drawn anew, so train the model before it is used", folder, ", ".join(sorted(missing)))
            model.draw_head(place)
        model.tie_weights()
        backend, reason = choose_attention(attn_implementation, model.dtype, None if device is None else place)
        log.info("%s attention: %s", backend, reason)
        model.base.attention = make_attention(backend, config)
        model.n_used_ids = min(config.vocab_size, n_used_ids(folder) or config.vocab_size)
        return model.eval()

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes config.json and model.safetensors, for this engine and transformers alike; a tied head is left out."""
        weights = {name: parameter.detach() for name, parameter in self.named_parameters()}
        save_weights(weights, self.config, type(self).__name__, Path(folder))

    def draw_head(self, device: torch.device) -> None:
        """Gives the head fresh weights, in the dtype of the others."""
        assert self.head is not None
        head = self.get_submodule(self.head).to_empty(device=device).to(self.dtype)
        init_weights(head, self.config)


def init_weights(module: nn.Module, config: GPTBigCodeConfig) -> None:
    """Draws fresh weights in place: N(0, initializer_range), narrower by sqrt(2 * n_layer) where a block adds to the stream."""
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif ".ln_" in f".{name}":
            nn.init.ones_(parameter)
        else:
            narrow = (2 * config.n_layer) ** -0.5 if name.endswith("c_proj.weight") else 1.0
            nn.init.normal_(parameter, 0.0, config.initializer_range * narrow)


def _dtype(wanted: Dtype) -> torch.dtype | None:
    if wanted is None or wanted == "auto":
        return None
    dtype = getattr(torch, wanted.removeprefix("torch."), None) if isinstance(wanted, str) else wanted
    if dtype not in FLOATS:
        raise ValueError(f"dtype {wanted!r} is none of auto, float32, float16, bfloat16")
    return dtype
