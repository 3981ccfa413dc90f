"""Rewriting a model folder into each of the published layouts, and spoiling it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.config import GPTBigCodeConfig
from tests.engine.conftest import load

Weights = dict[str, Tensor]


def change_weights(folder: Path, change) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    save_file(change(tensors), path)


def change_config(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | values), "utf-8")


def logits_of(folder: Path) -> torch.Tensor:
    with torch.inference_mode():
        return load(folder)(torch.arange(20)[None]).logits


def tensors_of(folder: Path) -> Weights:
    return load_file(folder / "model.safetensors")


def write_shards(folder: Path, suffix: str, save: Callable[[Weights, Path], object]) -> None:
    tensors = tensors_of(folder)
    names = sorted(tensors)
    index = {}
    for number, some in enumerate((names[::2], names[1::2]), 1):
        shard = f"shard-{number}-of-2.{suffix}"
        save({name: tensors[name] for name in some}, folder / shard)
        index |= dict.fromkeys(some, shard)
    stem = "model.safetensors" if suffix == "safetensors" else "pytorch_model.bin"
    (folder / f"{stem}.index.json").write_text(json.dumps({"weight_map": index}), "utf-8")


def santacoder_layout(tensors: Weights, config: GPTBigCodeConfig) -> Weights:
    """What the original SantaCoder's file would hold: GPT-2's layout, with the masks that it stored."""
    stored: Weights = {"transformer.h.0.attn.bias": torch.ones(1, 1, 8, 8), "transformer.h.0.attn.masked_bias": torch.ones(())}
    for name, tensor in tensors.items():
        head, _, kind = name.rpartition(".")
        if head.endswith("c_attn") and config.multi_query:
            q, kv = tensor.split((config.n_embd, 2 * config.head_dim))
            stored[f"{head[:-6]}kv_attn.{kind}"], stored[f"{head[:-6]}q_attn.{kind}"] = (
                t.T if t.ndim == 2 else t for t in (kv, q)
            )
        elif head.endswith("c_attn"):
            rows = tensor.view(config.n_head, 3, config.head_dim, *tensor.shape[1:]).transpose(0, 1).flatten(0, 2)
            stored[name] = rows.T if rows.ndim == 2 else rows
        else:
            stored[name] = tensor.T if kind == "weight" and head.endswith(("c_proj", "c_fc")) else tensor
    return {name: tensor.contiguous() for name, tensor in stored.items()}


def as_santacoder(folder: Path) -> None:
    config = GPTBigCodeConfig.from_pretrained(folder)
    change_weights(folder, lambda tensors: santacoder_layout(tensors, config))
    kind = "multiquery" if config.multi_query else "multihead"
    path = folder / "config.json"
    values = json.loads(path.read_text("utf-8"))
    del values["multi_query"]
    change = {"model_type": "gpt2", "architectures": ["GPT2LMHeadCustomModel"], "attention_head_type": kind}
    path.write_text(json.dumps(values | change | {"activation_function": "gelu_fast"}), "utf-8")


def as_bin(folder: Path) -> None:
    torch.save(tensors_of(folder), folder / "pytorch_model.bin")


def as_old_bin(folder: Path) -> None:
    torch.save(tensors_of(folder), folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)


def without_prefix(folder: Path) -> None:
    masks = {"bias": torch.ones(8, 8), "h.0.attn.bias": torch.ones(1, 8, 8), "h.0.attn.masked_bias": torch.ones(())}
    change_weights(folder, lambda tensors: {name.removeprefix("transformer."): t for name, t in tensors.items()} | masks)


def with_other_heads(folder: Path) -> None:
    heads = {"lm_head.weight": torch.ones(8192, 64), "score.weight": torch.ones(9, 64), "classifier.bias": torch.ones(5)}
    change_weights(folder, lambda tensors: tensors | heads)
