"""The training loop: any number of processes, one after the other, add up to one uninterrupted run.

A run lives in one folder: its checkpoint, its log and its curve. A decay reads the stable run's checkpoint and writes into a
folder of its own, so that the stable run goes on as if there had been none.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from engine.heads import GPTBigCodeForCausalLM
from engine.training.batches import Batches, Row
from engine.training.bits import Windows, bits_per_byte
from engine.training.log import Entry, TrainingLog
from engine.training.optimizer import MuonAdamW
from engine.training.packed import PackedAttention, packed_loss
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
    """A model in training: its weights, its optimizer's state and the number of steps done."""

    def __init__(self, recipe: Recipe, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.recipe = recipe
        self.model = GPTBigCodeForCausalLM(recipe.config, PackedAttention(recipe.config)).to(recipe.device)
        self.optimizer = MuonAdamW(self.model, recipe.optimizer)
        self.model.to(recipe.dtype)  # in place: the optimizer's masters stay float32
        self.step = 0

    def train_step(self, rows: tuple[Row, ...], schedule: Schedule) -> tuple[float, float]:
        """One step on the rows of one batch; returns the mean loss in nats per token and the gradient's norm."""
        n_labels = sum(int((row.labels >= 0).sum()) for row in rows)
        total = 0.0
        for row in rows:
            loss = packed_loss(self.model, row.to(self.recipe.device))
            torch.autograd.backward(loss)
            total += float(loss.detach())
        norm = self.optimizer.step(1 / n_labels, schedule.factor(self.step))
        self.step += 1
        return total / n_labels, norm

    def save(self, path: Path) -> None:
        """Writes a checkpoint that is never seen half-written."""
        partial = path.with_suffix(".partial")
        torch.save({"step": self.step, "optimizer": self.optimizer.state_dict()}, partial)
        os.replace(partial, path)

    def load(self, path: Path) -> None:
        """Takes up a checkpoint."""
        state = torch.load(path, map_location=self.recipe.device, weights_only=True)
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = int(state["step"])


def train(trainer: Trainer, data: Data, run: Run, should_stop: Callable[[], bool], on_step: Callable[[Entry], None]) -> None:
    """Trains from the trainer's step to the run's last one, or until `should_stop`, and leaves a checkpoint there.

    Memory that a step frees is kept for the next (see `keep_heap`).
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    log = TrainingLog(run.folder, trainer.step)
    saved_s = started_s = time.monotonic()
    for rows in data.batches.stream(trainer.step):
        if should_stop() or trainer.step == run.last_step:
            break
        loss, norm = trainer.train_step(rows, run.schedule)
        now_s = time.monotonic()
        n_tokens, step_s, started_s = trainer.recipe.step_tokens, now_s - started_s, now_s
        entry = Entry(
            trainer.step, trainer.step * n_tokens, loss, norm, run.schedule.factor(trainer.step - 1), n_tokens / step_s
        )
        log.add(entry)
        on_step(entry)
        if now_s - saved_s > run.checkpoint_s:
            _checkpoint(trainer, data, run, log)
            saved_s = started_s = time.monotonic()
    _checkpoint(trainer, data, run, log)


def _checkpoint(trainer: Trainer, data: Data, run: Run, log: TrainingLog) -> None:
    trainer.save(run.folder / STATE)
    log.add_bits(trainer.step, bits_per_byte(trainer.model, data.held_out))
    log.draw()
