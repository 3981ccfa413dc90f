"""Judging a model: ways of completing, the fitted recall and gate, calibration, problems with tests."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from engine.api import Gate, Order, Request
from engine.cache_pool import CachePool
from engine.decoder import Decoder
from engine.jobs import Job
from engine.model_files import read_gate, write_gate
from engine.recall import EDGES, RecallWeights
from engine.tokenizer import Tokenizer
from engine.training.completer import Answer, Completer, Limits
from engine.training.evaluate import WAYS, Matches, answer_holes, share_solved, write_answers
from engine.training.fitting import fit_recall, nats_per_token, observe
from engine.training.holes import LineHole, held_out_blocks
from engine.training.humaneval import Problem
from engine.training.judgement import Judged, draw_reliability, fit_gate
from tests.engine.conftest import load

LINES = [f"    self.field_{n} = reader.fetch(path, {n % 3})\n" for n in range(40)]
HOLES = [
    LineHole("class A:\n" + "".join(LINES[:n]) + LINES[n][:cut], LINES[n][cut:-1], "\n" + LINES[n + 1], "call")
    for n in range(8, 20)
    for cut in (9, 14, 24)
]
NEUTRAL = RecallWeights(tuple(float(edge) / 4 - 2 for edge in EDGES), 0, 0, 0, 0, 0, 0, 0)


@pytest.fixture(scope="module")
def folder(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model with a recall beside it."""
    folder = tmp_path_factory.mktemp("with-recall")
    for file in checkpoint.iterdir():
        (folder / file.name).symlink_to(file)
    NEUTRAL.save(folder)
    return folder


def test_answers_are_what_the_engine_answers(folder: Path) -> None:
    completer, model = Completer.from_folder(folder, Limits(512, 12)), load(folder)
    tokenizer = Tokenizer.from_pretrained(folder)
    decoder = Decoder(model, tokenizer, CachePool(model.transformer.new_cache, 1 << 30), recall=NEUTRAL)
    for hole in HOLES[:6]:
        for order in (Order.SPM, Order.PSM):
            request = Request(document="", prefix=hole.prefix, suffix=hole.suffix, max_tokens=12, order=order)
            chunks = list(decoder.complete(Job(request)))
            answer = completer.fill(hole.prefix, hole.suffix, order)
            text = "".join(chunk.text for chunk in chunks)
            if chunks[-1].counters.finish != "suffix":  # the engine also ends where the suffix is repeated
                assert answer.text == text


def test_every_way_answers_every_hole_in_its_place(folder: Path) -> None:
    done: list[int] = []
    answers = answer_holes(HOLES, folder, Limits(256, 8), done.append, n_workers=2)
    assert sum(done) == len(HOLES)
    assert {way: len(row) for way, row in answers.items()} == dict.fromkeys(WAYS, len(HOLES))
    completer = Completer.from_folder(folder, Limits(256, 8))
    assert [one.text for one in answers["spm"]] == [completer.fill(hole.prefix, hole.suffix, Order.SPM).text for hole in HOLES]
    summary = Matches.of(HOLES, answers).summary()
    low, high = summary["exact_match_interval"]["copier"]
    assert low <= summary["exact_match"]["copier"] <= high
    assert summary["n_holes"] == len(HOLES)


def test_a_fitted_recall_predicts_better_than_the_model_and_than_other_weights(folder: Path) -> None:
    model, tokenizer = load(folder), Tokenizer.from_pretrained(folder)
    observed = [one for hole in HOLES for one in observe(hole, model, tokenizer, 256)]
    fitted = fit_recall(observed)
    alone = -sum(one.logprob for one in observed) / len(observed)
    assert nats_per_token(observed, fitted) < min(nats_per_token(observed, NEUTRAL), alone) - 0.2


def judged(n: int = 400) -> Judged:
    """Answers that are right as often as they promise."""
    rng = np.random.default_rng(0)
    promised = rng.random(n)
    return Judged(np.log(promised), np.log(promised) / 2, promised, rng.random(n) < promised)


def test_the_gate_shows_as_much_as_is_precise_enough() -> None:
    answers = judged()
    gate = fit_gate(answers)
    assert answers.at(gate) == pytest.approx((gate.precision, gate.coverage), abs=1e-4)
    assert gate.precision >= 0.5
    assert gate.coverage > 0.8  # half of everything is right already


def test_where_nothing_is_precise_enough_the_gate_takes_the_most_precise() -> None:
    answers = judged()
    doubtful = Judged(answers.least, answers.mean, answers.expected, answers.right & (np.arange(400) % 4 == 0))
    gate = fit_gate(doubtful)
    assert doubtful.right.mean() < gate.precision < 0.5


def test_too_few_answers_are_refused() -> None:
    few = judged(10)
    with pytest.raises(ValueError, match="10 answers"):
        fit_gate(few)


def test_a_gate_is_read_back_as_written(tmp_path: Path) -> None:
    gate = Gate(min_logprob=-1.5, mean_logprob=-0.5, precision=0.5, coverage=0.2)
    assert read_gate(tmp_path) is None
    write_gate(gate, tmp_path)
    assert read_gate(tmp_path) == gate
    assert json.loads((tmp_path / "gate.json").read_text())["min_logprob"] == -1.5


def test_calibration_error_is_the_gap_between_promise_and_truth(tmp_path: Path) -> None:
    assert judged(4000).calibration_error() < 0.05
    answers = [Answer("x", (-0.1,), float(np.log(0.9)))] * 10
    assert Judged.of(answers, [True] * 4 + [False] * 6).calibration_error() == pytest.approx(0.5)
    draw_reliability(judged(), tmp_path / "picture" / "reliability.png")
    assert (tmp_path / "picture" / "reliability.png").stat().st_size > 0


def test_empty_and_cut_answers_promise_nothing() -> None:
    row = Judged.of([Answer("", (), -0.1), Answer("x" * 99, (-0.1,))], [False, False])
    assert row.least[0] == -np.inf
    assert row.expected[1] == 0
    assert row.at(Gate(min_logprob=-1e9, mean_logprob=-1e9)) == (0.0, 0.5)


PROBLEM = Problem("def double(x):\n", "    return y\n", "def check(f):\n    assert f(2) == 4\n", "double")


def test_a_filling_passes_where_its_tests_do(tmp_path: Path, folder: Path) -> None:
    from engine.training.sandbox import Sandbox

    sandbox = Sandbox.without_network()
    assert sandbox.passes(PROBLEM.program("    y = 2 * x\n"))
    assert not sandbox.passes(PROBLEM.program("    y = 3 * x\n"))
    assert share_solved([PROBLEM] * 3, folder, one_line=True, n_workers=1, on_done=lambda n: None) == 0.0


def test_a_block_s_hole_is_the_body_of_what_opens_it_and_ends_with_it() -> None:
    text = "def f(x):\n    a = 1\n\n    if x:\n        return a\n    return 0\n\n\nfor y in z:\n  g(y)\nprint()\n"
    bodies = {hole.middle for hole in held_out_blocks([text], 40, seed=0)}
    assert bodies == {"a = 1\n\n    if x:\n        return a\n    return 0", "return a", "g(y)"}
    for hole in held_out_blocks([text], 10, seed=1):
        assert hole.prefix + hole.middle + hole.suffix == text
        assert hole.suffix.startswith("\n")


def test_written_answers_tell_where_each_token_ends(folder: Path, tmp_path: Path) -> None:
    answers = answer_holes(HOLES[:4], folder, Limits(), lambda n: None, n_workers=1, ways=("spm",))["spm"]
    write_answers(HOLES[:4], answers, tmp_path / "answers.jsonl.gz")
    with gzip.open(tmp_path / "answers.jsonl.gz", "rt") as lines:
        written = [json.loads(line) for line in lines]
    assert [one["middle"] for one in written] == [hole.middle for hole in HOLES[:4]]
    for one in written:
        assert len(one["ends"]) == len(one["logprobs"])
        assert one["ends"] == sorted(one["ends"])
        assert one["ends"][-1:] in ([], [len(one["text"])])
