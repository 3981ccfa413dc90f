"""Every layout of a checkpoint gives the same model; a file that is damaged or would run code is named."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from engine.api import CheckpointError
from tests.engine.conftest import load
from tests.engine.layouts import (
    as_bin,
    as_old_bin,
    as_santacoder,
    change_weights,
    logits_of,
    tensors_of,
    with_other_heads,
    without_prefix,
    write_shards,
)


@pytest.fixture
def folder(checkpoint, tmp_path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(checkpoint, tmp_path / "model"))


# how the folder is rewritten, and the file that must no longer be needed
LAYOUTS = [
    (lambda folder: write_shards(folder, "safetensors", save_file), True),
    (lambda folder: write_shards(folder, "bin", torch.save), True),
    (as_bin, True),
    (as_old_bin, True),
    (without_prefix, False),
    (with_other_heads, False),
    (as_santacoder, False),
]


@pytest.mark.parametrize("multi_query", [True, False])
@pytest.mark.parametrize(("rewrite", "is_moved"), LAYOUTS)
def test_every_layout_gives_the_same_model(checkpoint, multi_head_checkpoint, tmp_path, rewrite, is_moved, multi_query) -> None:
    folder = Path(shutil.copytree(checkpoint if multi_query else multi_head_checkpoint, tmp_path / "model"))
    wanted = logits_of(folder)
    rewrite(folder)
    if is_moved:
        (folder / "model.safetensors").unlink()
    assert torch.equal(logits_of(folder), wanted)
    assert all(parameter.is_contiguous() for parameter in load(folder).parameters())  # transposed once, here


class Code:
    """Pickled as a call, which a loader that trusts files would make."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("ran",)


# what pytorch_model.bin holds, and what the error says
PICKLES = [
    ({"transformer.wte.weight": Code()}, r"pytorch_model\.bin: refused, for its pickle asks to run \S*mkdir"),
    (torch.nn.Linear(2, 2), r"pytorch_model\.bin: refused, for its pickle asks to run torch\.nn\.modules\.linear\.Linear"),
    ([torch.ones(2)], r"pytorch_model\.bin: holds a list, named tensors were expected"),
    ({"step": 3}, r"pytorch_model\.bin: step is a int, a tensor was expected"),
    ({"transformer.wpe.weight": torch.ones(3, 64)}, r"wpe\.weight has shape \[3, 64\], config\.json asks for \[512, 64\]"),
    ({"transformer.wte.weight": torch.ones(8192, 64).char()}, r"wte\.weight is int8; float16, bfloat16 and float32 are"),
    ({}, r"pytorch_model\.bin: lacks transformer\.h\.0\.attn\.c_attn\.bias of shape \[96\], .* \(40 tensors in all\)"),
]


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize(("stored", "message"), PICKLES)
def test_a_pickle_that_is_more_than_our_tensors_is_refused(folder, monkeypatch, tmp_path, stored, message, is_zip) -> None:
    monkeypatch.chdir(tmp_path)
    (folder / "model.safetensors").unlink()
    torch.save(stored, folder / "pytorch_model.bin", _use_new_zipfile_serialization=is_zip)
    with pytest.raises(CheckpointError, match=message):
        load(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("n_bytes", [0, 7, 1000, 100_000])
def test_a_truncated_pickle_is_named(folder, n_bytes, is_zip) -> None:
    path = folder / "pytorch_model.bin"
    torch.save(tensors_of(folder), path, _use_new_zipfile_serialization=is_zip)
    (folder / "model.safetensors").unlink()
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin: cannot be read as a PyTorch checkpoint"):
        load(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", r"index\.json: is not an index of shards"),
        ("no", r"index\.json: is not an index of shards"),
        ('{"weight_map": {"a": 1}}', r"index\.json: is not an index of shards"),
        ('{"weight_map": {}}', r"index\.json: names no shard"),
        ('{"weight_map": {"a": "gone.safetensors"}}', r"gone\.safetensors: cannot be read as safetensors"),
        ('{"weight_map": {"a": "../../gone.bin"}}', r"model/gone\.bin: cannot be read as a PyTorch checkpoint"),
    ],
)
def test_a_wrong_index_is_named(folder, text, message) -> None:
    (folder / "model.safetensors.index.json").write_text(text, "utf-8")
    with pytest.raises(CheckpointError, match=message):
        load(folder)


def test_half_of_an_attention_projection_is_named(folder) -> None:
    as_santacoder(folder)
    change_weights(folder, lambda tensors: {n: t for n, t in tensors.items() if n != "transformer.h.1.attn.q_attn.bias"})
    with pytest.raises(CheckpointError, match=r"holds transformer\.h\.1\.attn\.kv_attn\.bias without its other half"):
        load(folder)


@pytest.mark.parametrize("n_bytes", [0, 7, 1000, 100_000])
def test_a_truncated_file_is_named(folder, n_bytes) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: cannot be read as safetensors"):
        load(folder)
