"""How far a completion's own probabilities tell whether it is right: thresholds for the gate, calibration, and its picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.api import Gate
from engine.training.completer import Answer

RELIABILITY = "reliability.png"
_MIN_PRECISION = 0.5
_MIN_SHOWN = 20  # fewer say nothing about a precision
_N_QUANTILES = 25
_N_BINS = 10


@dataclass(frozen=True, slots=True)
class Judged:
    """Answers as a gate sees them. Shapes: each (answers,); an empty answer is -inf in the first two."""

    least: NDArray[np.float64]  # log-probability of the least likely token
    mean: NDArray[np.float64]
    expected: NDArray[np.float64]  # probability that the whole answer is right, by the model's own account
    right: NDArray[np.bool_]

    @classmethod
    def of(cls, answers: Sequence[Answer], right: Sequence[bool] | NDArray[np.bool_]) -> Judged:
        """Takes in answers and whether each was right."""
        least = [min(answer.logprobs, default=-np.inf) for answer in answers]
        mean = [float(np.mean(answer.logprobs)) if answer.logprobs else -np.inf for answer in answers]
        expected = [0.0 if answer.total is None else float(np.exp(answer.total)) for answer in answers]
        return cls(np.array(least), np.array(mean), np.array(expected), np.asarray(right, bool))

    def at(self, gate: Gate) -> tuple[float, float]:
        """Precision and coverage behind a gate; precision 0 where nothing is shown."""
        shown = (self.least >= gate.min_logprob) & (self.mean >= gate.mean_logprob)
        return (float(self.right[shown].mean()) if shown.any() else 0.0), float(shown.mean())

    def calibration_error(self) -> float:
        """Expected calibration error: the mean gap between what is promised and what is right, over bins of equal width."""
        return sum(abs(promised - kept) * share for promised, kept, share in self.bins())

    def bins(self) -> list[tuple[float, float, float]]:
        """For each bin that is not empty: mean promise, share of right answers, share of all answers."""
        index = np.minimum((self.expected * _N_BINS).astype(int), _N_BINS - 1)
        rows = [index == number for number in range(_N_BINS)]
        return [
            (float(self.expected[row].mean()), float(self.right[row].mean()), float(row.mean())) for row in rows if row.any()
        ]


def fit_gate(judged: Judged) -> Gate:
    """The gate with the widest coverage among those precise enough; the most precise one where none is."""
    gates: list[Gate] = []
    worth: list[tuple[float, float, float]] = []
    shares = np.linspace(0, 1, _N_QUANTILES, endpoint=False)
    finite = np.isfinite(judged.mean)
    for least in np.quantile(judged.least[finite], shares):
        for mean in np.quantile(judged.mean[finite], shares):
            gate = Gate(min_logprob=round(float(least), 4), mean_logprob=round(float(mean), 4))
            precision, coverage = judged.at(gate)
            if coverage * len(judged.right) >= _MIN_SHOWN:
                gates.append(replace(gate, precision=round(precision, 4), coverage=round(coverage, 4)))
                worth.append((min(precision, _MIN_PRECISION), coverage, precision))
    if not gates:
        raise ValueError(f"{len(judged.right)} answers are too few to fit a gate; it takes some hundreds")
    return gates[max(range(len(gates)), key=worth.__getitem__)]


def draw_reliability(judged: Judged, path: Path) -> None:
    """Draws what is promised against what is right, with the share of answers in each bin."""
    # Imported here: matplotlib takes a second, and is there for development only.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    promised, kept, shares = (list(column) for column in zip(*judged.bins(), strict=True))
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.add_subplot(xlabel="probability of the line, by the model", ylabel="share of lines exactly right")
    axes.plot([0, 1], [0, 1], color="lightgrey")
    axes.plot(promised, kept, color="tab:blue", marker="o")
    axes.bar(promised, shares, width=0.04, color="tab:orange", alpha=0.5, label="share of all lines")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_figure(path)
