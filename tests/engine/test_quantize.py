"""int8 weights: what they stand for, from every layout, and how they are kept."""

from __future__ import annotations

import itertools
import logging
import os
from pathlib import Path

import pytest
import torch

from engine import quantize
from engine.api import EngineError
from engine.model_files import PACKED_FOLDER
from engine.native.library import load_library
from engine.quantize import quantize_rows
from engine.quantized_model import QuantizedForCausalLM
from tests.engine import layouts
from tests.engine.conftest import write_checkpoint

LIBRARY = load_library()  # before a test has a cache of its own, for which it would be compiled again
IDS = torch.arange(20)[None]
LAYOUTS = [layouts.as_santacoder, layouts.as_bin, layouts.as_old_bin, layouts.without_prefix, layouts.with_other_heads]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", os.fspath(tmp_path / "cache"))
    return write_checkpoint(tmp_path / "model")


def logits(folder: Path) -> torch.Tensor:
    with torch.inference_mode():
        return QuantizedForCausalLM.from_pretrained(folder, n_threads=1, library=LIBRARY)(IDS).logits


def kept(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def test_a_weight_is_off_by_half_a_level_at_most() -> None:
    weight = torch.randn(50, 77, generator=torch.Generator().manual_seed(0))
    weight[3] = 0
    levels, scales = quantize_rows(weight)
    assert ((levels * scales[:, None] - weight).abs() <= 0.5001 * scales[:, None]).all()
    assert levels.abs().amax(1).tolist() == [127 if row != 3 else 0 for row in range(50)]


@pytest.mark.parametrize("change", LAYOUTS, ids=lambda change: change.__name__)
def test_every_layout_gives_the_same_answers(folder, change) -> None:
    wanted = logits(folder)
    change(folder)
    assert torch.equal(logits(folder), wanted)


def test_what_was_kept_gives_the_same_answers_and_is_not_made_again(folder) -> None:
    wanted = logits(folder)
    (path,) = kept(folder / PACKED_FOLDER)
    at_ns = path.stat().st_mtime_ns
    assert torch.equal(logits(folder), wanted)
    assert [each.stat().st_mtime_ns for each in kept(folder / PACKED_FOLDER)] == [at_ns]


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    match how:
        case "a bit has flipped":
            content[-1000] ^= 16
        case "its end is missing":
            del content[len(content) // 2 :]
        case "it is empty":
            content.clear()
        case "it is another program's":
            content[:] = b"\x02\0\0\0\0\0\0\0{}"
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["a bit has flipped", "its end is missing", "it is empty", "it is another program's"])
def test_a_damaged_file_is_made_anew(folder, how, caplog) -> None:
    wanted = logits(folder)
    (path,) = kept(folder / PACKED_FOLDER)
    damage(path, how)
    with caplog.at_level(logging.WARNING):
        assert torch.equal(logits(folder), wanted)
    assert "is damaged and made anew" in caplog.text
    caplog.clear()
    assert torch.equal(logits(folder), wanted)
    assert not caplog.text


def test_other_weights_in_the_same_folder_are_quantised_and_the_old_ones_go(folder, tmp_path) -> None:
    before = logits(folder)
    (old,) = kept(folder / PACKED_FOLDER)
    write_checkpoint(folder, seed=1)
    assert not torch.equal(logits(folder), before)
    assert [old] != kept(folder / PACKED_FOLDER)
    assert len(kept(folder / PACKED_FOLDER)) == 1


def test_a_folder_that_cannot_be_written_has_its_weights_in_the_user_s_cache(folder, tmp_path) -> None:
    (folder / PACKED_FOLDER).write_text("in the way")
    wanted = logits(folder)
    assert len(list((tmp_path / "cache").glob("midfill/int8/*/*.safetensors"))) == 1
    assert torch.equal(logits(folder), wanted)


def test_weights_that_cannot_be_kept_anywhere_still_serve(folder, tmp_path) -> None:
    (folder / PACKED_FOLDER).write_text("in the way")
    (tmp_path / "cache" / "midfill").mkdir(parents=True, exist_ok=True)
    (tmp_path / "cache" / "midfill" / "int8").write_text("in the way")
    assert logits(folder).isfinite().all()


def test_embeddings_that_stay_in_the_file_give_the_same_answers(folder, monkeypatch) -> None:
    wanted = logits(folder)
    monkeypatch.setattr(quantize, "IN_MEMORY_BYTES", 0)
    assert torch.equal(logits(folder), wanted)
    model = QuantizedForCausalLM.from_pretrained(folder, n_threads=1, library=LIBRARY)
    os.truncate(*kept(folder / PACKED_FOLDER), 1000)
    with pytest.raises(EngineError, match="can no longer be read; restart the engine"):
        model(IDS)


def test_nothing_half_written_is_left_behind(folder) -> None:
    logits(folder)
    assert len(list(itertools.chain((folder / PACKED_FOLDER).iterdir()))) == 1
