"""The training loop: any number of processes, one after the other, add up to one uninterrupted run.

A run lives in one folder: its checkpoint, its log and its curve. A decay reads the stable run's checkpoint and writes into a
folder of its own, so that the stable run goes on as if there had been none.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from engine.training.batches import Batches, Row
from engine.training.bits import Windows, bits_per_byte
from engine.training.initial import new_model
from engine.training.log import BITS, LOG, Entry, TrainingLog
from engine.training.optimizer import MuonAdamW
from engine.training.packed import packed_loss
from engine.training.recipe import Recipe
from engine.training.schedule import Schedule

STATE = "state.pt"


@dataclass(frozen=True, slots=True)
class Run:
    """Where a run lives, how its learning rate goes, and when it ends; `last_step` None means when it is stopped."""

    folder: Path
    schedule: Schedule
    last_step: int | None = None
    checkpoint_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Data:
    """What is trained on, and the held-out windows scored at each checkpoint."""

    batches: Batches
    held_out: Windows


class Trainer:
    """A model in training: its weights, its optimizer's state, and how many steps and tokens it has seen."""

    def __init__(self, recipe: Recipe, seed: int = 0) -> None:
        self.recipe = recipe
        self.model = new_model(recipe.config, seed).to(recipe.device)
        self.optimizer = MuonAdamW(self.model, recipe.optimizer)
        self.model.to(recipe.dtype)  # in place: the optimizer's masters stay float32
        self.step = 0
        self.n_tokens = 0

    def train_step(self, rows: tuple[Row, ...], schedule: Schedule) -> tuple[float, float]:
        """One step on the rows of one batch; returns the weighted mean loss in nats per token and the gradient's norm."""
        n_labels = sum(float(row.weights.sum()) for row in rows)
        total = 0.0
        for row in rows:
            loss = packed_loss(self.model, row.to(self.model.device))
            torch.autograd.backward(loss)
            total += float(loss.detach())
        norm = self.optimizer.step(1 / n_labels, schedule.factor(self.step))
        self.step += 1
        self.n_tokens += sum(len(row.ids) for row in rows)
        return total / n_labels, norm

    def save(self, path: Path) -> None:
        """Writes a checkpoint that is never seen half-written."""
        partial = path.with_suffix(".partial")
        torch.save({"step": self.step, "n_tokens": self.n_tokens, "optimizer": self.optimizer.state_dict()}, partial)
        os.replace(partial, path)

    def load(self, path: Path) -> None:
        """Takes up a checkpoint."""
        state = torch.load(path, map_location=self.recipe.device, weights_only=True)
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.n_tokens = int(state["step"]), int(state["n_tokens"])


def train(trainer: Trainer, data: Data, run: Run, should_stop: Callable[[], bool], on_step: Callable[[Entry], None]) -> None:
    """Trains from the trainer's step to the run's last one, or until `should_stop`, and leaves a checkpoint there."""
    run.folder.mkdir(parents=True, exist_ok=True)
    log = TrainingLog(run.folder, trainer.step)
    saved_s = started_s = time.monotonic()
    for rows in data.batches.stream(trainer.step):
        if should_stop() or trainer.step == run.last_step:
            break
        loss, norm = trainer.train_step(rows, run.schedule)
        now_s = time.monotonic()
        tokens_per_s, started_s = sum(len(row.ids) for row in rows) / (now_s - started_s), now_s
        factor = run.schedule.factor(trainer.step - 1)
        entry = Entry(trainer.step, trainer.n_tokens, loss, norm, factor, tokens_per_s)
        log.add(entry)
        on_step(entry)
        if now_s - saved_s > run.checkpoint_s:
            _checkpoint(trainer, data, run, log)
            saved_s = started_s = time.monotonic()
    _checkpoint(trainer, data, run, log)


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Holds a run for this process; two at a time would write over each other's checkpoints.

    Raises: BlockingIOError where another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system lets go of it when the process ends, however it ends
        yield


def branch(stable: Path, folder: Path) -> None:
    """Starts a run where another one's checkpoint is, with that one's log as its past."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (STATE, LOG, BITS):
        shutil.copyfile(stable / name, folder / name)


def _checkpoint(trainer: Trainer, data: Data, run: Run, log: TrainingLog) -> None:
    trainer.save(run.folder / STATE)
    log.add_bits(trainer.step, bits_per_byte(trainer.model, data.held_out))
    log.draw()
