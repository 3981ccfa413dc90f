"""Filling a model from a folder, and writing one that transformers reads."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from functools import reduce
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from engine.api import CheckpointError
from engine.config import GPTBigCodeConfig
from engine.stored import HEADS, Stored, our_name, stored_tensors, weight_files

Progress = Callable[[float], None]

log = logging.getLogger(__name__)

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def load_weights(
    model: nn.Module,
    folder: Path,
    config: GPTBigCodeConfig,
    *,
    dtype: torch.dtype | None,
    device: torch.device,
    progress: Progress | None = None,
) -> set[str]:
    """Puts a folder's weights into a model made on the meta device; the names of what it lacks of the model's own head.

    `dtype` None keeps the checkpoint's, the widest where they differ. `progress` hears the share read, 0 to 1, and may
    raise to abandon.
    Raises: CheckpointError naming file, key, got and wanted shape.
    """
    shapes = {our_name(name): (name, parameter.shape) for name, parameter in model.named_parameters()}
    tensors = read_weights(shapes, folder, config, progress)
    found = {name: tensor.to(device=device, dtype=dtype).contiguous() for name, tensor in tensors}
    missing_head = {name for name, _ in shapes.values() if name not in found and name != "lm_head.weight"}
    common = reduce(torch.promote_types, {tensor.dtype for tensor in found.values()})
    model.load_state_dict({name: tensor.to(common) for name, tensor in found.items()}, strict=False, assign=True)
    return missing_head


def read_weights(
    shapes: dict[str, tuple[str, torch.Size]], folder: Path, config: GPTBigCodeConfig, progress: Progress | None = None
) -> Iterator[tuple[str, Tensor]]:
    """Every weight that is wanted, as the folder stores it, one at a time; what else a head stores is passed over.

    `shapes` has under each name of our scheme the name to give it and its shape.
    Raises: CheckpointError naming file, key, got and wanted shape; at the end, where more than a task's head is missing.
    """
    missing = dict(shapes)
    for stored in stored_tensors(folder, config):
        if stored.name in shapes:
            name, shape = shapes[stored.name]
            _check(stored, shape)
            missing.pop(stored.name, None)
            yield name, stored.tensor
        elif stored.name not in HEADS:
            raise CheckpointError(
                f"{stored.path}: holds {stored.key} of shape {list(stored.tensor.shape)}, which GPTBigCode does not have"
            )
        if progress is not None:
            progress(stored.share)
    own_heads = {name for name in missing if name in HEADS and name != "lm_head.weight"}
    _check_complete(folder, {name: list(shape) for our, (name, shape) in missing.items() if our not in own_heads})


def save_weights(weights: dict[str, Tensor], config: GPTBigCodeConfig, architecture: str, folder: Path) -> None:
    """Writes weights and config.json; neither is ever seen half-written, nor torn from under who has the old one mapped."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / "model.safetensors.partial"
    # transformers refuses a file that does not say which framework wrote it.
    save_file({name: weight.contiguous() for name, weight in weights.items()}, partial, metadata={"format": "pt"})
    partial.chmod(0o644)  # written through a private temporary file
    os.replace(partial, folder / "model.safetensors")
    dtype = str(next(iter(weights.values())).dtype).removeprefix("torch.")
    values = {"architectures": [architecture], "torch_dtype": dtype, **config.to_dict()}
    partial = folder / "config.json.partial"
    partial.write_text(json.dumps(values, indent=2) + "\n", "utf-8")
    os.replace(partial, folder / "config.json")


def _check(stored: Stored, shape: torch.Size) -> None:
    if stored.tensor.shape != shape:
        raise CheckpointError(
            f"{stored.path}: {stored.key} has shape {list(stored.tensor.shape)}, config.json asks for {list(shape)}"
        )
    if stored.tensor.dtype not in FLOATS:
        got = str(stored.tensor.dtype).removeprefix("torch.")
        raise CheckpointError(f"{stored.path}: {stored.key} is {got}; float16, bfloat16 and float32 are understood")


def _check_complete(folder: Path, missing: dict[str, list[int]]) -> None:
    if missing:
        files = weight_files(folder)
        where = f"{files[0]}" if len(files) == 1 else f"{files[0]} and the {len(files) - 1} shards beside it"
        few = ", ".join(f"{name} of shape {shape}" for name, shape in sorted(missing.items())[:3])
        raise CheckpointError(f"{where}: lacks {few} ({len(missing)} tensors in all)")
