"""Checkpoints load from every layout, and a wrong one is one clear error."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.api import CheckpointError
from engine.config import GPTBigCodeConfig
from engine.model_files import folder_digest, model_folder
from tests.engine.conftest import load, write_checkpoint


@pytest.fixture
def folder(checkpoint, tmp_path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(checkpoint, tmp_path / "model"))


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


def test_shards_equal_a_single_file(folder) -> None:
    wanted, tensors = logits_of(folder), load_file(folder / "model.safetensors")
    names = sorted(tensors)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for shard, shard_names in shards.items():
        save_file({name: tensors[name] for name in shard_names}, folder / shard)
    index = {"weight_map": {name: shard for shard, shard_names in shards.items() for name in shard_names}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    (folder / "model.safetensors").unlink()
    assert torch.equal(logits_of(folder), wanted)


def test_a_bare_models_file_and_stored_masks_are_understood(folder) -> None:
    wanted = logits_of(folder)
    change_weights(
        folder,
        lambda tensors: (
            {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
            | {"h.0.attn.bias": torch.ones(1, 8, 8), "h.0.attn.masked_bias": torch.ones(())}
        ),
    )
    assert torch.equal(logits_of(folder), wanted)


# what is spoilt, and what the error must name
SPOILT = [
    (
        lambda tensors: tensors | {"transformer.wpe.weight": torch.ones(3, 64)},
        r"model\.safetensors: transformer\.wpe\.weight has shape \[3, 64\], config\.json asks for \[512, 64\]",
    ),
    (
        lambda tensors: {name: t for name, t in tensors.items() if name != "transformer.ln_f.bias"},
        r"model\.safetensors: lacks transformer\.ln_f\.bias of shape \[64\] \(1 tensors in all\)",
    ),
    (
        lambda tensors: tensors | {"model.layers.0.q_proj.weight": torch.ones(2)},
        r"model\.safetensors: holds model\.layers\.0\.q_proj\.weight of shape \[2\], which GPTBigCode does not have",
    ),
]


@pytest.mark.parametrize(("change", "message"), SPOILT)
def test_a_wrong_file_is_named_with_its_key(folder, change, message) -> None:
    change_weights(folder, change)
    with pytest.raises(CheckpointError, match=message):
        load(folder)


@pytest.mark.parametrize("n_bytes", [0, 7, 1000, 100_000])
def test_a_truncated_file_is_named(folder, n_bytes) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: cannot be read as safetensors"):
        load(folder)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_type": "llama"}, r"config\.json: model_type is 'llama', only 'gpt_bigcode' is understood"),
        ({"n_head": 5}, "n_embd 64 is not a multiple of n_head 5"),
        ({"n_layer": 0}, "n_layer is 0, must be at least 1"),
        ({"activation_function": "swish"}, "activation_function 'swish' is none of gelu_pytorch_tanh"),
        ({"n_embd": "wide"}, "n_embd is 'wide', an integer was expected"),
    ],
)
def test_a_wrong_config_is_one_clear_error(folder, values, message) -> None:
    change_config(folder, **values)
    with pytest.raises(CheckpointError, match=message):
        load(folder)


def test_fields_of_other_runtimes_are_passed_over_and_aliases_understood(folder) -> None:
    change_config(folder, inference_runner=0, pad_key_length=True, summary_type="cls_index", torch_dtype="float16")
    assert GPTBigCodeConfig.from_pretrained(folder).n_embd == 64
    assert GPTBigCodeConfig.from_dict({"hidden_size": 32, "num_attention_heads": 2}).head_dim == 16


def test_a_folder_without_a_model_says_what_one_holds(tmp_path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json: cannot be read"):
        load(tmp_path)


def test_an_unknown_name_is_never_downloaded(monkeypatch) -> None:
    with pytest.raises(CheckpointError, match="`midfill models pull bigcode/nothing` downloads it"):
        model_folder("bigcode/nothing")


def test_the_digest_changes_with_the_weights(folder) -> None:
    before = folder_digest(folder)
    assert folder_digest(folder) == before
    write_checkpoint(folder, seed=1)
    assert folder_digest(folder) != before
