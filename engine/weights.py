"""Reading checkpoints from a folder into our parameter names.

Files are memory-mapped, so that a tensor is read from disk once and only where its dtype changes copied.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from engine.api import CheckpointError
from engine.attention import Attention
from engine.config import GPTBigCodeConfig
from engine.heads import GPTBigCodeForCausalLM

Progress = Callable[[float], None]

IGNORED_SUFFIXES = (".attn.bias", ".attn.masked_bias", "transformer.bias")  # masks that older releases stored


def load_causal_lm(
    folder: Path, *, dtype: torch.dtype | None, device: torch.device, attention: Attention, progress: Progress | None = None
) -> GPTBigCodeForCausalLM:
    """Loads a causal language model, ready to run; `dtype` None keeps the checkpoint's.

    `progress` hears the share of tensors read, 0 to 1.
    Raises: CheckpointError naming file, key, got and wanted shape.
    """
    config = GPTBigCodeConfig.from_pretrained(folder)
    with torch.device("meta"):
        model = GPTBigCodeForCausalLM(config, attention)
    wanted = {name: parameter.shape for name, parameter in model.named_parameters()}
    found: dict[str, Tensor] = {}
    files = checkpoint_files(folder)
    for path, name, tensor, share in _tensors(files):
        if name not in wanted:
            if name == "lm_head.weight" or name.endswith(IGNORED_SUFFIXES):
                continue
            raise CheckpointError(f"{path}: holds {name}, which GPTBigCode does not have")
        if tensor.shape != wanted[name]:
            raise CheckpointError(f"{path}: {name} has shape {list(tensor.shape)}, config.json asks for {list(wanted[name])}")
        found[name] = tensor.to(device=device, dtype=dtype)
        if progress is not None:
            progress(share)
    missing = wanted.keys() - found.keys()
    if missing:
        raise CheckpointError(f"{files[0]}: lacks {', '.join(sorted(missing)[:3])} ({len(missing)} tensors in all)")
    model.load_state_dict(found, strict=False, assign=True)
    model.tie_weights()
    return model.eval().requires_grad_(False)


def checkpoint_files(folder: Path) -> list[Path]:
    """The weight files of a model folder: a single one, or the shards that its index names.

    Raises: CheckpointError where there is none.
    """
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            shards = json.loads(index.read_text("utf-8"))["weight_map"].values()
        except (ValueError, KeyError, AttributeError) as error:
            raise CheckpointError(f"{index}: is not an index of shards: {error!r}") from error
        return [folder / shard for shard in sorted(set(shards))]
    single = folder / "model.safetensors"
    if single.is_file():
        return [single]
    raise CheckpointError(f"{folder}: holds no model.safetensors; a model folder has config.json, tokenizer.json and weights")


def _tensors(files: list[Path]) -> Iterator[tuple[Path, str, Tensor, float]]:
    """Every tensor with its file, its name in our scheme, and the share of all files read so far."""
    for file_idx, path in enumerate(files):
        try:
            with safe_open(path, framework="pt") as file:
                names = list(file.keys())
                for name_idx, name in enumerate(names, 1):
                    share = (file_idx + name_idx / len(names)) / len(files)
                    yield path, _our_name(name), file.get_tensor(name), share
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path}: cannot be read as safetensors: {error}") from error


def _our_name(name: str) -> str:
    """A bare model's file may lack the `transformer.` prefix."""
    return name if name.startswith(("transformer.", "lm_head.")) else f"transformer.{name}"
