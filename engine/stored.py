"""Every tensor of a model folder under our names, whichever of the published layouts it is stored in.

Layouts: one safetensors or pickled file, or shards of either with their index; GPTBigCode's own linear layers, or the
original SantaCoder's, which are GPT-2's: transposed, with `q_attn` and `kv_attn` apart. Files are memory-mapped, so that
a tensor is read from disk once and only where its layout or dtype changes copied.
"""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from engine.api import CheckpointError
from engine.config import GPTBigCodeConfig, is_santacoder

SINGLE_FILES = ("model.safetensors", "pytorch_model.bin")  # the first that is there is taken
HEADS = ("lm_head.weight", "score.weight", "classifier.weight", "classifier.bias")
IGNORED_SUFFIXES = (".attn.bias", ".attn.masked_bias", "transformer.bias")  # masks that older releases stored
TRANSPOSED_SUFFIXES = (".c_attn.weight", ".q_attn.weight", ".kv_attn.weight", ".c_proj.weight", ".c_fc.weight")
CODE_IN_PICKLE = re.compile(r"GLOBAL (\S+)")


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor: the file and key it came from, its name in our scheme, and the share of the folder read so far."""

    path: Path
    key: str
    name: str
    tensor: Tensor
    share: float


def stored_tensors(folder: Path, config: GPTBigCodeConfig) -> Iterator[Stored]:
    """Every tensor that the folder holds, but for masks, in the layout of our parameters.

    Raises: CheckpointError where a file is missing, damaged, no weights at all, or asks to run code.
    """
    files = weight_files(folder)
    tensors = (stored for idx, path in enumerate(files) for stored in _of_file(path, idx, len(files)))
    wanted = (stored for stored in tensors if not stored.name.endswith(IGNORED_SUFFIXES))
    return _from_santacoder(wanted, config) if is_santacoder(folder) else wanted


def weight_files(folder: Path) -> list[Path]:
    """The weight files of a model folder: the shards that an index names, or a single one; safetensors before pickles.

    Raises: CheckpointError where there is none.
    """
    for name in SINGLE_FILES:
        index, single = folder / f"{name}.index.json", folder / name
        if index.is_file():
            return [folder / shard for shard in _shards(index)]
        if single.is_file():
            return [single]
    raise CheckpointError(
        f"{folder}: holds no {' or '.join(SINGLE_FILES)}; a model folder has config.json, tokenizer.json and weights"
    )


def our_name(key: str) -> str:
    """A bare model's file, or a bare model of ours, lacks the `transformer.` prefix."""
    return f"transformer.{key}" if key.startswith(("wte.", "wpe.", "h.", "ln_f.")) or key == "bias" else key


def _shards(index: Path) -> list[str]:
    try:
        shards = json.loads(index.read_text("utf-8"))["weight_map"].values()
        names = sorted({Path(shard).name for shard in shards})  # the index names files beside it, nothing else
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{index}: is not an index of shards: {error!r}") from error
    if not names:
        raise CheckpointError(f"{index}: names no shard")
    return names


def _of_file(path: Path, file_idx: int, n_files: int) -> Iterator[Stored]:
    tensors = _safetensors(path) if path.suffix == ".safetensors" else _pickled(path)
    for n_read, (key, tensor, n_keys) in enumerate(tensors, 1):
        yield Stored(path, key, our_name(key), tensor, (file_idx + n_read / n_keys) / n_files)


def _safetensors(path: Path) -> Iterator[tuple[str, Tensor, int]]:
    try:
        with safe_open(path, framework="pt") as file:
            keys = list(file.keys())
            for key in keys:
                yield key, file.get_tensor(key), len(keys)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read as safetensors: {error}") from error


def _pickled(path: Path) -> Iterator[tuple[str, Tensor, int]]:
    """Tensors of a pickle that holds nothing else: one that names any function or class of another kind is refused."""
    try:
        # only the newer of torch's two formats, a zip archive, can be mapped
        tensors: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=path.is_file() and zipfile.is_zipfile(path))
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to mean
        code = CODE_IN_PICKLE.search(str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if code:
            raise CheckpointError(
                f"{path}: refused, for its pickle asks to run {code[1]}; only files of plain tensors are read, "
                "have its author save the weights as safetensors"
            ) from error
        raise CheckpointError(f"{path}: cannot be read as a PyTorch checkpoint: {error!r:.200}") from error
    if not isinstance(tensors, dict):
        raise CheckpointError(f"{path}: holds a {type(tensors).__name__}, named tensors were expected")
    for key, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise CheckpointError(f"{path}: {key} is a {type(tensor).__name__}, a tensor was expected")
        yield key, tensor, len(tensors)


def _from_santacoder(tensors: Iterator[Stored], config: GPTBigCodeConfig) -> Iterator[Stored]:
    """GPT-2's layout made ours: weights transposed, queries before keys and values, the heads of MHA side by side."""
    waiting: dict[str, Stored] = {}  # of q_attn and kv_attn the one that came first
    for stored in tensors:
        if stored.name.endswith(TRANSPOSED_SUFFIXES) and stored.tensor.ndim == 2:
            stored = replace(stored, tensor=stored.tensor.T)
        halves = re.fullmatch(r"(.*\.attn\.)(q_attn|kv_attn)(\.\w+)", stored.name)
        if halves:
            name = f"{halves[1]}c_attn{halves[3]}"
            other = waiting.pop(name, None)
            if other is None:
                waiting[name] = stored
                continue
            first, second = (stored, other) if halves[2] == "q_attn" else (other, stored)
            stored = replace(stored, name=name, tensor=_join(first, second))
        elif ".attn.c_attn." in stored.name and not config.multi_query:
            stored = replace(stored, tensor=_heads_side_by_side(stored, config))
        yield stored
    if waiting:
        alone = next(iter(waiting.values()))
        raise CheckpointError(f"{alone.path}: holds {alone.key} without its other half; both q_attn and kv_attn are needed")


def _join(first: Stored, second: Stored) -> Tensor:
    """Shapes: first (E, …), second (2 * D, …), result (E + 2 * D, …)."""
    if first.tensor.shape[1:] != second.tensor.shape[1:]:
        shapes = f"{list(first.tensor.shape)} and {list(second.tensor.shape)}"
        raise CheckpointError(
            f"{first.path}: {first.key} and {second.key} have shapes {shapes}, transposed, and do not fit together"
        )
    return torch.cat((first.tensor, second.tensor))


def _heads_side_by_side(stored: Stored, config: GPTBigCodeConfig) -> Tensor:
    """GPT-2's (3, H, D) rows as our (H, 3, D); a wrong shape is left for the comparison with the model's."""
    if stored.tensor.shape[0] != 3 * config.n_embd:
        return stored.tensor
    rows = stored.tensor.reshape(3, config.n_head, config.head_dim, *stored.tensor.shape[1:])
    return rows.transpose(0, 1).flatten(0, 2)
