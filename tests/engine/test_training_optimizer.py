"""Schedule, Muon and AdamW."""

from __future__ import annotations

import pytest
import torch

from engine.heads import GPTBigCodeForCausalLM
from engine.training.initial import new_model, sinusoids
from engine.training.optimizer import MuonAdamW, OptimizerOptions, orthogonalise
from engine.training.recipe import shape
from engine.training.schedule import Schedule

SHAPE = shape(n_layer=2, n_embd=16, n_head=2, n_vocab=40, n_positions=32)
FACTORS = [
    (Schedule(warmup_steps=4), {0: 0.25, 3: 1.0, 10_000: 1.0}),
    (Schedule(warmup_steps=0), {0: 1.0}),
    (Schedule(warmup_steps=4, decay_start=10, decay_steps=3), {9: 1.0, 10: 0.75, 11: 0.5, 12: 0.25, 13: 0.0, 20: 0.0}),
]


@pytest.mark.parametrize(("schedule", "factors"), FACTORS)
def test_schedule(schedule: Schedule, factors: dict[int, float]) -> None:
    assert {step: schedule.factor(step) for step in factors} == pytest.approx(factors)


@pytest.mark.parametrize("size", [(2, 32, 96), (2, 96, 32), (3, 48, 48)])
def test_orthogonalise_brings_singular_values_near_one(size: tuple[int, int, int]) -> None:
    matrices = torch.randn(size, generator=torch.Generator().manual_seed(0)) * 100
    values = torch.linalg.svdvals(orthogonalise(matrices))
    assert float(values.max()) < 1.35
    assert float(values.median()) > 0.6
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    assert float(((left @ right) * orthogonalise(matrices)).sum() / values.sum()) > 0.95  # same singular vectors


def model() -> GPTBigCodeForCausalLM:
    torch.manual_seed(0)
    return GPTBigCodeForCausalLM(SHAPE)


def fill(trained: GPTBigCodeForCausalLM, value: float) -> None:
    for parameter in trained.parameters():
        parameter.grad = torch.full_like(parameter, value)


def test_step_moves_every_parameter_and_clears_gradients() -> None:
    trained = model()
    before = {name: parameter.detach().clone() for name, parameter in trained.named_parameters()}
    optimizer = MuonAdamW(trained, OptimizerOptions())
    fill(trained, 0.01)
    optimizer.step(scale=1.0, factor=1.0)
    for name, parameter in trained.named_parameters():
        assert not parameter.equal(before[name]), name
        assert parameter.grad is None
        assert parameter.equal(optimizer.masters[name])


def test_norm_is_that_of_the_scaled_gradient_and_clipping_bounds_the_step() -> None:
    trained = model()
    n_parameters = sum(parameter.numel() for parameter in trained.parameters())
    optimizer = MuonAdamW(trained, OptimizerOptions(max_norm=1.0))
    fill(trained, 4.0)
    assert optimizer.step(scale=0.5, factor=1.0) == pytest.approx(2 * n_parameters**0.5, rel=1e-4)


def test_first_adam_step_is_the_learning_rate_against_the_sign() -> None:
    trained = model()
    before = trained.transformer.ln_f.weight.detach().clone()
    optimizer = MuonAdamW(trained, OptimizerOptions(adam_lr=0.01))
    fill(trained, 3.0)
    optimizer.step(scale=1.0, factor=0.5)
    torch.testing.assert_close(before - trained.transformer.ln_f.weight, torch.full_like(before, 0.005), rtol=1e-3, atol=0)


def test_positions_have_their_own_learning_rate() -> None:
    trained = model()
    before = trained.transformer.wpe.weight.detach().clone()
    optimizer = MuonAdamW(trained, OptimizerOptions(adam_lr=0.01, position_lr=0.002))
    fill(trained, 3.0)
    optimizer.step(scale=1.0, factor=1.0)
    torch.testing.assert_close(before - trained.transformer.wpe.weight, torch.full_like(before, 0.002), rtol=1e-3, atol=0)


def test_positions_start_as_rotations_of_their_neighbours() -> None:
    rows = sinusoids(n_positions=100, n_embd=16)
    products = rows @ rows.T
    for distance in (0, 1, 7):  # how alike two positions are hangs on their distance alone
        along = products.diagonal(distance)
        torch.testing.assert_close(along, along[:1].expand_as(along))
    assert new_model(SHAPE, seed=1).transformer.wpe.weight.equal(sinusoids(SHAPE.n_positions, SHAPE.n_embd))


def test_masters_keep_what_bfloat16_loses() -> None:
    trained = model()
    optimizer = MuonAdamW(trained, OptimizerOptions(adam_lr=1e-4))
    trained.bfloat16()
    for _ in range(100):
        fill(trained, 1.0)
        optimizer.step(scale=1.0, factor=1.0)
    assert float(optimizer.masters["transformer.ln_f.weight"][0]) == pytest.approx(0.99, abs=1e-3)
    assert float(trained.transformer.ln_f.weight.detach()[0]) < 1  # one step alone would have been rounded away
