"""Published shapes with random weights: what an engine costs does not depend on what its weights say."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from engine.attention import SdpaAttention
from engine.config import GPTBigCodeConfig
from engine.heads import GPTBigCodeForCausalLM
from engine.model_files import SHIPPED_MODEL
from engine.pretrained import init_weights

SHAPES: dict[str, dict[str, object]] = {
    "tiny_starcoder_py": {"n_layer": 20, "n_embd": 768, "n_head": 12, "n_positions": 8192, "vocab_size": 49152},
    "santacoder": {"n_layer": 24, "n_embd": 2048, "n_head": 16, "n_positions": 2048, "vocab_size": 49280},
    "starcoderbase-1b": {"n_layer": 24, "n_embd": 2048, "n_head": 16, "n_positions": 8192, "vocab_size": 49152},
    "starcoderbase-3b": {"n_layer": 36, "n_embd": 2816, "n_head": 22, "n_positions": 8192, "vocab_size": 49152},
    "starcoderbase-7b": {
        "n_layer": 42, "n_embd": 4096, "n_head": 32, "n_positions": 8192, "vocab_size": 49152, "activation_function": "gelu"
    },
    "starcoder": {
        "n_layer": 40, "n_embd": 6144, "n_head": 48, "n_positions": 8192, "vocab_size": 49152, "activation_function": "gelu"
    },
}  # fmt: skip


def config(shape: str, **changes: object) -> GPTBigCodeConfig:
    """A published shape's, changed."""
    return GPTBigCodeConfig.from_dict({**SHAPES[shape], "bos_token_id": 0, "eos_token_id": 0, **changes})


def random_model(shape: GPTBigCodeConfig, dtype: torch.dtype, device: torch.device) -> GPTBigCodeForCausalLM:
    """A model made where it runs, so that 15 billion weights never pass through the host."""
    torch.manual_seed(0)
    with torch.device("meta"):
        model = GPTBigCodeForCausalLM(shape, SdpaAttention(shape))
    model = model.to(dtype).to_empty(device=device)
    model.tie_weights()
    init_weights(model, shape)
    return model.eval().requires_grad_(False)


def write_random(shape: str, folder: Path) -> Path:
    """Writes a checkpoint in float16, with the shipped tokenizer, whose ids are a part of the shape's."""
    random_model(config(shape), torch.float16, torch.device("cpu")).save_pretrained(folder)
    shutil.copy(SHIPPED_MODEL / "tokenizer.json", folder)
    return folder
