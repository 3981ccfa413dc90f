"""What a model folder is worth on held-out code: exact match in every way of asking, with intervals, as one JSON object."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from engine.api import Order
from engine.training.completer import Answer, Completer, Limits
from engine.training.holes import LineHole, copy_from_prefix
from engine.training.humaneval import Problem
from engine.training.sandbox import Sandbox
from engine.training.workers import chunks, in_processes

_N_RESAMPLES = 2000
_PROBLEM_LINE, _PROBLEM_SPAN = Limits(n_new=64), Limits(n_new=160, one_line=False)

ANSWERS = "answers.jsonl.gz"
WAYS = ("spm", "model_alone", "psm", "prefix_only", "copier")  # the second is the first without the recall

Answers = dict[str, list[Answer]]  # by way, in the order of the holes


@dataclass(frozen=True, slots=True)
class Matches:
    """Which holes each way of completing got exactly right. Each row is one bool per hole, in the same order."""

    kinds: tuple[str, ...]
    right: dict[str, NDArray[np.bool_]]

    @classmethod
    def of(cls, holes: Sequence[LineHole], answers: Answers) -> Matches:
        """Right is what equals the line's rest but for blanks at its end."""
        wanted = [hole.middle.rstrip() for hole in holes]
        right = {way: [one.text.rstrip() for one in row] for way, row in answers.items()}
        kinds = tuple(str(hole.kind) for hole in holes)
        return cls(kinds, {way: np.array([*map(str.__eq__, row, wanted)], bool) for way, row in right.items()})

    def summary(self, seed: int = 0) -> dict[str, object]:
        """Fractions, their 95 % bootstrap intervals, those of paired differences to `spm`, and fractions by kind."""
        n_holes = len(self.kinds)
        rng = np.random.default_rng(seed)
        draws = [rng.integers(n_holes, size=n_holes) for _ in range(_N_RESAMPLES)]  # the same for every way: paired
        means = {way: np.array([right[drawn].mean() for drawn in draws]) for way, right in self.right.items()}
        kinds = np.array(self.kinds)
        return {
            "n_holes": n_holes,
            "exact_match": {way: round(float(right.mean()), 4) for way, right in self.right.items()},
            "exact_match_interval": {way: _interval(mean) for way, mean in means.items()},
            "spm_minus": {way: _interval(means["spm"] - mean) for way, mean in means.items() if way != "spm"},
            "exact_match_by_kind": {
                way: {kind: round(float(right[kinds == kind].mean()), 4) for kind in sorted(set(self.kinds))}
                for way, right in self.right.items()
            },
        }


def answer_holes(
    holes: Sequence[LineHole],
    folder: Path,
    limits: Limits,
    on_done: Callable[[int], None],
    *,
    n_workers: int = 2,
    ways: Sequence[str] = WAYS,
) -> Answers:
    """Completes every hole in every way, in processes of one thread each: small matrix products gain little from two."""
    answers: Answers = {way: [] for way in ways}
    for chunk in in_processes(partial(_answer_chunk, folder, limits, ways), chunks(holes), n_workers):
        for way in ways:
            answers[way] += chunk[way]
        on_done(len(chunk[ways[0]]))
    return answers


def write_answers(holes: Sequence[LineHole], answers: Sequence[Answer], path: Path) -> None:
    """Writes holes with what was written for them, gzipped JSON lines, for who judges what of it should be shown."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        for hole, answer in zip(holes, answers, strict=True):
            written = {"text": answer.text, "logprobs": answer.logprobs, "ends": answer.ends}
            file.write(json.dumps(asdict(hole) | written) + "\n")


def share_solved(
    problems: Sequence[Problem], folder: Path, *, one_line: bool, n_workers: int, on_done: Callable[[int], None]
) -> float:
    """The share of problems whose tests pass with the hole filled in SPM."""
    passed: list[bool] = []
    for chunk in in_processes(partial(_solve_chunk, folder, one_line), chunks(problems), n_workers):
        passed += chunk
        on_done(len(chunk))
    return sum(passed) / len(passed)


def _answer_chunk(folder: Path, limits: Limits, ways: Sequence[str], holes: Sequence[LineHole]) -> Answers:
    torch.set_num_threads(1)
    completer = Completer.from_folder(folder, limits)
    complete: dict[str, Callable[[LineHole], Answer]] = {
        "spm": lambda hole: completer.fill(hole.prefix, hole.suffix, Order.SPM),
        "model_alone": lambda hole: completer.fill(hole.prefix, hole.suffix, Order.SPM, with_recall=False),
        "psm": lambda hole: completer.fill(hole.prefix, hole.suffix, Order.PSM),
        "prefix_only": lambda hole: completer.go_on(hole.prefix),
        "copier": lambda hole: Answer(copy_from_prefix(hole.prefix)),
    }
    answers: Answers = {way: [] for way in ways}
    for hole in holes:  # hole by hole, for the first two share a prompt
        for way in ways:
            answers[way].append(complete[way](hole))
    return answers


def _solve_chunk(folder: Path, one_line: bool, problems: Sequence[Problem]) -> list[bool]:
    torch.set_num_threads(1)
    completer, sandbox = Completer.from_folder(folder, _PROBLEM_LINE if one_line else _PROBLEM_SPAN), Sandbox.without_network()
    solved = []
    for problem in problems:
        # The suffix of a line begins with the newline that ends it, as it is served and trained.
        suffixed = replace(problem, suffix="\n" + problem.suffix) if one_line else problem
        middle = completer.fill(suffixed.prompt, suffixed.suffix, Order.SPM).text
        solved.append(sandbox.passes(suffixed.program(middle)))
    return solved


def _interval(means: NDArray[np.float64]) -> list[float]:
    return [round(float(bound), 4) for bound in np.percentile(means, (2.5, 97.5))]
