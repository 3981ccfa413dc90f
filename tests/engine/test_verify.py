"""`midfill verify` finds every sound checkpoint equal to transformers, and an unsound engine different."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from engine.attention import SdpaAttention
from engine.verify import verify
from tests.engine.conftest import write_checkpoint
from tests.engine.layouts import as_bin, as_santacoder, change_weights, without_prefix

# the published shapes, each in its own proportions: layers, heads of the same size, inner, vocabulary, activation
PUBLISHED = {
    "tiny_starcoder_py": {"n_layer": 5, "n_embd": 48, "n_head": 12, "vocab_size": 49152},
    "gpt_bigcode-santacoder": {"n_layer": 6, "n_embd": 64, "n_head": 16, "vocab_size": 49280},
    "starcoderbase-1b": {"n_layer": 6, "n_embd": 64, "n_head": 16, "vocab_size": 49152},
    "starcoderbase-3b": {"n_layer": 9, "n_embd": 88, "n_head": 22, "vocab_size": 49152},
    "starcoderbase-7b": {"n_layer": 10, "n_embd": 128, "n_head": 32, "vocab_size": 49152, "activation_function": "gelu"},
    "starcoder": {"n_layer": 10, "n_embd": 192, "n_head": 48, "vocab_size": 49152, "activation_function": "gelu"},
}


def check(folder: Path) -> None:
    verdicts = verify(folder, n_prompt=24, n_greedy=16)
    assert [verdict.attention for verdict in verdicts] == ["eager", "sdpa"]
    for verdict in verdicts:
        assert verdict.passed, verdict
        assert verdict.n_greedy == 16


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_shape_made_small(tmp_path, name) -> None:
    check(write_checkpoint(tmp_path, **PUBLISHED[name]))


def test_multi_head(multi_head_checkpoint) -> None:
    check(multi_head_checkpoint)


@pytest.mark.parametrize("rewrite", [as_bin, without_prefix, as_santacoder])
def test_every_layout(checkpoint, tmp_path, rewrite) -> None:
    folder = Path(shutil.copytree(checkpoint, tmp_path / "model"))
    rewrite(folder)
    if rewrite is as_bin:
        (folder / "model.safetensors").unlink()
    check(folder)


def test_half_precision_is_compared_in_float32(checkpoint, tmp_path) -> None:
    folder = Path(shutil.copytree(checkpoint, tmp_path / "model"))
    change_weights(folder, lambda tensors: {name: tensor.half() for name, tensor in tensors.items()})
    assert load_file(folder / "model.safetensors")["transformer.wpe.weight"].dtype == torch.float16
    check(folder)


def test_few_positions(tmp_path) -> None:
    folder = write_checkpoint(tmp_path, n_positions=6)
    assert all(verdict.passed and verdict.n_greedy == 3 for verdict in verify(folder))


def test_an_unsound_engine_is_found_out(checkpoint, monkeypatch) -> None:
    sound = SdpaAttention.__init__

    def unsound(self: SdpaAttention, config: object) -> None:
        sound(self, config)
        self.scale *= 1.01

    monkeypatch.setattr(SdpaAttention, "__init__", unsound)
    eager, sdpa = verify(checkpoint, n_prompt=24, n_greedy=16)
    assert eager.passed
    assert not sdpa.passed
