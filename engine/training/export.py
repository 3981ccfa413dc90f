"""Turns a checkpoint of training into a model folder that midfill and transformers load alike."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch

from engine.config import GPTBigCodeConfig
from engine.training.card import model_card
from engine.training.judgement import RELIABILITY
from engine.training.log import CURVE, cost
from engine.training.train import STATE
from engine.weights import save_weights

SAMPLES = "samples.md"


def export(run: Path, config: GPTBigCodeConfig, tokenizer: Path, folder: Path) -> None:
    """Writes config, tokenizer and weights of the run's checkpoint; float16, the tied head left out."""
    masters = torch.load(run / STATE, map_location="cpu", weights_only=True)["optimizer"]["masters"]
    weights = {name: master.to(torch.float16) for name, master in masters.items()}
    assert "lm_head.weight" not in weights, "a tied head is no parameter of its own"
    assert all(weight.isfinite().all() for weight in weights.values()), "a weight does not fit float16"
    save_weights(weights, config, "GPTBigCodeForCausalLM", folder)
    if tokenizer.resolve() != (folder / "tokenizer.json").resolve():
        shutil.copyfile(tokenizer, folder / "tokenizer.json")
    tokenizer_config = json.dumps(_tokenizer_config(config.n_positions), indent=2)
    (folder / "tokenizer_config.json").write_text(tokenizer_config + "\n", "utf-8")


def export_card(run: Path, config: GPTBigCodeConfig, manifest: Path, figures: Path, folder: Path) -> None:
    """Writes the model card beside the weights, with the manifest and the curve that it refers to.

    What a person has seen these weights write is taken from `samples.md` in the folder.
    """
    shutil.copyfile(manifest, folder / "manifest.json")
    shutil.copyfile(run / CURVE, folder / CURVE)
    if (figures.parent / RELIABILITY).exists():
        shutil.copyfile(figures.parent / RELIABILITY, folder / RELIABILITY)
    measured = json.loads(figures.read_text("utf-8")) if figures.exists() else None
    samples = folder / SAMPLES
    seen = samples.read_text("utf-8") if samples.exists() else ""
    card = model_card(config, json.loads(manifest.read_text("utf-8")), cost(run), measured, seen)
    (folder / "README.md").write_text(card, "utf-8")


def _tokenizer_config(n_positions: int) -> dict[str, object]:
    end = "<|endoftext|>"
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": end,
        "eos_token": end,
        "unk_token": end,
        "model_max_length": n_positions,
        "clean_up_tokenization_spaces": False,
    }
