"""Published shapes with random weights: what an engine costs does not depend on what its weights say."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from engine.config import GPTBigCodeConfig
from engine.heads import GPTBigCodeForCausalLM
from engine.model_files import SHIPPED_MODEL

SHAPES = {
    "tiny_starcoder_py": {"n_layer": 20, "n_embd": 768, "n_head": 12, "n_positions": 8192, "vocab_size": 49152},
    "santacoder": {"n_layer": 24, "n_embd": 2048, "n_head": 16, "n_positions": 2048, "vocab_size": 49280},
}


def write_random(shape: str, folder: Path) -> Path:
    """Writes a checkpoint in bfloat16, with the shipped tokenizer, whose ids are a part of the shape's."""
    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        GPTBigCodeForCausalLM(GPTBigCodeConfig(**SHAPES[shape], bos_token_id=0, eos_token_id=0)).save_pretrained(folder)
    finally:
        torch.set_default_dtype(default)
    shutil.copy(SHIPPED_MODEL / "tokenizer.json", folder)
    return folder
