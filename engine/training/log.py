"""What a training run leaves behind for people: a CSV line per step, held-out bits per byte at each checkpoint, a curve."""

from __future__ import annotations

import csv
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from statistics import median

LOG, BITS, CURVE = "log.csv", "bits.csv", "curve.png"

_SMOOTHING = 0.98  # of the drawn loss, per step


@dataclass(frozen=True, slots=True)
class Entry:
    """One step: tokens seen in all, mean loss in nats per token, gradient norm, learning-rate factor, speed."""

    step: int
    n_tokens: int
    loss: float
    norm: float
    factor: float
    tokens_per_s: float


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run cost so far; hours at its median speed, for it may have been paused."""

    n_steps: int
    n_tokens: int
    hours: float


def cost(folder: Path) -> Cost:
    """Reads a run's cost from its log."""
    rows = _read(folder / LOG)
    n_tokens = int(rows[-1]["n_tokens"])
    return Cost(int(rows[-1]["step"]), n_tokens, n_tokens / median(float(row["tokens_per_s"]) for row in rows) / 3600)


class TrainingLog:
    """`log.csv`, `bits.csv` and `curve.png` of a run's folder; lines from `step` on are forgotten at the start.

    They belong to a process that ended after its last checkpoint.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._steps, self._bits, self._curve = folder / LOG, folder / BITS, folder / CURVE
        _keep(self._steps, step, [field.name for field in fields(Entry)])
        _keep(self._bits, step, ["step", "bits_per_byte"])

    def add(self, entry: Entry) -> None:
        """Adds a step's line."""
        _append(self._steps, [f"{value:.5g}" if isinstance(value, float) else str(value) for value in astuple(entry)])

    def add_bits(self, step: int, bits_per_byte: float) -> None:
        """Adds the held-out figure after a step."""
        _append(self._bits, [str(step), f"{bits_per_byte:.4f}"])

    def draw(self) -> None:
        """Draws both curves over the steps."""
        # Imported here: matplotlib takes a second, and a run without checkpoints needs no picture.
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        steps = [(int(row["step"]), float(row["loss"])) for row in _read(self._steps)]
        bits = [(int(row["step"]), float(row["bits_per_byte"])) for row in _read(self._bits)]
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        left = figure.add_subplot(xlabel="step", ylabel="training loss, nats per token")
        left.plot([step for step, _ in steps], _smooth([loss for _, loss in steps]), color="tab:blue")
        right = left.twinx()
        right.set_ylabel("held-out bits per byte")
        right.plot([step for step, _ in bits], [value for _, value in bits], color="tab:orange", marker=".")
        FigureCanvasAgg(figure).print_figure(self._curve)


def _smooth(values: list[float]) -> list[float]:
    smoothed, mean = [], values[0] if values else 0.0
    for value in values:
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * value
        smoothed.append(mean)
    return smoothed


def _keep(path: Path, step: int, header: list[str]) -> None:
    rows = [list(row.values()) for row in _read(path) if int(row["step"]) <= step]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def _append(path: Path, row: list[str]) -> None:
    with path.open("a", newline="") as file:
        csv.writer(file).writerow(row)


def _read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
