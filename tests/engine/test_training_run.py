"""A run: interrupted and resumed = uninterrupted; decays leave it alone; its export is a model folder."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from engine.heads import GPTBigCodeForCausalLM
from engine.model_files import SHIPPED_MODEL
from engine.tokenizer import Tokenizer
from engine.training.batches import Batches, BatchOptions
from engine.training.bits import bits_per_byte, windows
from engine.training.card import n_parameters
from engine.training.evaluate import Matches
from engine.training.export import export, export_card
from engine.training.holes import copy_from_prefix, held_out_holes, read_holes, write_holes
from engine.training.recipe import Recipe, recipe, shape
from engine.training.schedule import Schedule
from engine.training.texts import Texts
from engine.training.train import STATE, Data, Run, Trainer, only_one, train

TINY = Recipe(
    shape(n_layer=2, n_embd=16, n_head=2, n_positions=128),
    BatchOptions(n_rows=2, row_tokens=256, n_positions=128),
    warmup_steps=3,
)
CODE = "".join(
    f"def load_{n}(reader, path):\n    content = reader.fetch(path, {n})\n    return content.strip()\n\n\n" for n in range(60)
)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Texts:
    path = tmp_path_factory.mktemp("corpus") / "train"
    documents = [CODE.replace("reader", name) for name in ("store", "shelf", "archive")]
    path.with_suffix(".txt").write_text("".join(documents))
    np.save(path.with_suffix(".npy"), np.cumsum([len(document) for document in documents]))
    return Texts(path)


@pytest.fixture(scope="module")
def data(texts: Texts) -> Data:
    tokenizer = Tokenizer.from_pretrained(SHIPPED_MODEL)
    return Data(Batches(texts, tokenizer, TINY.batch), windows(texts, tokenizer, 128, 4000))


def advance(trainer: Trainer, data: Data, run: Run, n_steps: int | None = None) -> Trainer:
    done: list[int] = []
    train(trainer, data, run, lambda: n_steps is not None and len(done) >= n_steps, lambda entry: done.append(entry.step))
    return trainer


def resumed(path: Path) -> Trainer:
    trainer = Trainer(TINY)
    trainer.load(path)
    return trainer


def test_resumed_equals_uninterrupted_bit_for_bit(tmp_path: Path, data: Data) -> None:
    whole = advance(Trainer(TINY), data, Run(tmp_path / "whole", Schedule(3), last_step=5))
    parts = Run(tmp_path / "parts", Schedule(3), last_step=5)
    advance(Trainer(TINY), data, parts, n_steps=2)
    again = advance(resumed(tmp_path / "parts" / STATE), data, parts)
    assert whole.step == again.step == 5
    for name, master in whole.optimizer.masters.items():
        assert master.equal(again.optimizer.masters[name]), name
    with (tmp_path / "parts" / "log.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1", "2", "3", "4", "5"]
    assert (tmp_path / "parts" / "curve.png").stat().st_size > 0


def test_log_forgets_what_the_checkpoint_does_not_have(tmp_path: Path, data: Data) -> None:
    run = Run(tmp_path, Schedule(3), last_step=4)
    advance(Trainer(TINY), data, run, n_steps=2)
    (tmp_path / "log.csv").open("a").write("3,1536,9,9,1,1\n")  # a process that was killed after its checkpoint
    advance(resumed(tmp_path / STATE), data, run)
    with (tmp_path / "log.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1", "2", "3", "4"]


def test_a_run_belongs_to_one_process_at_a_time(tmp_path: Path) -> None:
    with only_one(tmp_path), pytest.raises(BlockingIOError), only_one(tmp_path):
        pass
    with only_one(tmp_path):  # free again
        pass


def test_training_lowers_the_loss_and_the_bits_per_byte(tmp_path: Path, data: Data) -> None:
    fresh = Trainer(TINY)
    before = bits_per_byte(fresh.model, data.held_out)
    advance(fresh, data, Run(tmp_path, Schedule(3), last_step=30))
    assert bits_per_byte(fresh.model, data.held_out) < 0.9 * before


def test_windows_predict_every_token_but_the_first_once(texts: Texts) -> None:
    tokenizer = Tokenizer.from_pretrained(SHIPPED_MODEL)
    held_out = windows(texts, tokenizer, 50)
    whole = [tokenizer.encode(texts[document_idx]) for document_idx in range(len(texts))]
    assert sum(len(ids) - 1 for ids in held_out.ids) == sum(len(ids) - 1 for ids in whole)
    assert held_out.n_bytes == texts.n_bytes - sum(len(tokenizer.token_bytes(ids[0])) for ids in whole)


def test_export_is_what_transformers_loads(tmp_path: Path, data: Data) -> None:
    trainer = advance(Trainer(TINY), data, Run(tmp_path / "run", Schedule(3), last_step=2))
    export(tmp_path / "run", TINY.config, SHIPPED_MODEL / "tokenizer.json", tmp_path / "model")
    check_same_logits(tmp_path / "model")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    for name, master in trainer.optimizer.masters.items():
        assert theirs.get_parameter(name).equal(master.half()), name


def test_card_states_what_was_measured_and_nothing_else(tmp_path: Path, data: Data) -> None:
    run = tmp_path / "run"
    trainer = advance(Trainer(TINY), data, Run(run, Schedule(3), last_step=2))
    half = {"n_packages": 1, "n_files": 2, "n_bytes": 3_000_000}
    package = {"name": "blinker", "version": "1", "licence": "MIT", "files": 2, "bytes": 3_000_000}
    manifest, figures, out = tmp_path / "manifest.json", tmp_path / "figures.json", tmp_path / "model"
    manifest.write_text(json.dumps({"train": {**half, "packages": [package]}, "dev": {**half, "packages": [package]}}))
    out.mkdir()
    export_card(run, TINY.config, manifest, figures, out)
    card = (out / "README.md").read_text()
    assert "Not measured yet." in card
    assert "| MIT | 3.0 |" in card
    assert f"{trainer.n_tokens / 1e6:.1f} million tokens" in card
    matches = Matches(("call", "word"), {"spm": np.array([True, False]), "copier": np.array([False, False])})
    figures.write_text(json.dumps({"bits_per_byte": 1.25, **matches.summary()}))
    export_card(run, TINY.config, manifest, figures, out)
    card = (out / "README.md").read_text()
    assert "1.250 bits per byte" in card
    assert "| suffix, prefix, middle (SPM), as shipped | 50.0% | 0.0% to 100.0% | 100.0% | 0.0% |" in card


def test_parameters_are_counted_as_the_model_has_them() -> None:
    for config in (TINY.config, recipe("cpu").config):
        model = GPTBigCodeForCausalLM(config)
        assert n_parameters(config) == sum(parameter.numel() for parameter in model.parameters())


def test_shipped_model_is_what_transformers_loads() -> None:
    check_same_logits(SHIPPED_MODEL)
    assert sum(path.stat().st_size for path in SHIPPED_MODEL.iterdir()) <= 60_000_000


def check_same_logits(folder: Path) -> None:
    theirs = transformers.GPTBigCodeForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ours = GPTBigCodeForCausalLM.from_pretrained(folder, dtype=torch.float32)
    text = "<fim_prefix>def main(argv: list[str]) -> int:\n    return 2048\n"
    ids = transformers.AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt").input_ids
    assert ids[0, 0] == Tokenizer.from_pretrained(folder).special.fim_prefix
    with torch.inference_mode():
        torch.testing.assert_close(ours(ids).logits, theirs(ids).logits, rtol=1e-5, atol=1e-5)


COPIES = [
    ("self.first = first\nself.sec = 2\nself.fir", "st = first"),
    ("alpha beta\nalpha gamma\nalpha", " gamma"),  # the latest of equally long ones
    ("return alpha.beta(1)\nreturn alpha.", "beta(1)"),
    ("", ""),
    ("x", ""),
    ("aaaa", "a"),  # an occurrence may overlap the text itself
]


@pytest.mark.parametrize(("prefix", "copied"), COPIES)
def test_copier(prefix: str, copied: str) -> None:
    assert copy_from_prefix(prefix) == copied


def test_holes_are_lines_cut_in_two_and_survive_the_file(texts: Texts, tmp_path: Path) -> None:
    holes = held_out_holes(texts, 40, seed=1)
    assert holes == held_out_holes(texts, 40, seed=1)
    assert {hole.kind for hole in holes} == {"statement", "member", "call", "word"}
    whole = [texts[document_idx] for document_idx in range(len(texts))]
    for hole in holes:
        assert "\n" not in hole.middle
        assert hole.suffix.startswith("\n")
        assert any(hole.prefix + hole.middle + hole.suffix in text for text in whole)
    write_holes(holes, tmp_path / "holes.jsonl.gz")
    assert read_holes(tmp_path / "holes.jsonl.gz") == holes


def test_an_unknown_size_is_named() -> None:
    with pytest.raises(ValueError, match="cpu or gpu, got 'tpu'"):
        recipe("tpu")
