"""Random checkpoints: small enough to make in a moment, in the layout that transformers writes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import transformers

from engine.attention import EagerAttention, SdpaAttention
from engine.heads import GPTBigCodeForCausalLM
from engine.model_files import SHIPPED_MODEL

torch.set_num_threads(1)  # tiny tensors: threads cost more than they save


def write_checkpoint(folder: Path, *, seed: int = 0, **changes: object) -> Path:
    """Saves a random GPTBigCode with the shipped tokenizer; weights are wide, so that argmaxes are decided."""
    values = {"vocab_size": 8192, "n_positions": 512, "n_embd": 64, "n_layer": 3, "n_head": 4, "initializer_range": 0.2}
    config = transformers.GPTBigCodeConfig(**{**values, "bos_token_id": 0, "eos_token_id": 0, **changes})
    torch.manual_seed(seed)
    transformers.GPTBigCodeForCausalLM(config).save_pretrained(folder)
    shutil.copy(SHIPPED_MODEL / "tokenizer.json", folder)
    return folder


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random multi-query model."""
    return write_checkpoint(tmp_path_factory.mktemp("mqa"))


@pytest.fixture(scope="session")
def multi_head_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random multi-head model."""
    return write_checkpoint(tmp_path_factory.mktemp("mha"), multi_query=False)


def load(folder: Path, backend: type[EagerAttention] | type[SdpaAttention] = SdpaAttention):
    """Our model of a checkpoint, in float32 on the CPU."""
    return GPTBigCodeForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=backend.name)


@pytest.fixture
def private_directories(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines of a test meet nobody else's."""
    for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
        folder = tmp_path_factory.mktemp("xdg")
        folder.chmod(0o700)
        monkeypatch.setenv(name, str(folder))
