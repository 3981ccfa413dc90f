"""Tokens are chosen from the usable ids only, greedily or by their probabilities."""

from __future__ import annotations

import torch

from engine.sampler import Sampler


def test_greedy_takes_the_likeliest_usable_id() -> None:
    logits = torch.tensor([0.0, 3.0, 2.0, 99.0])  # id 3 is padding
    assert Sampler(n_vocab=3)(logits).token_id == 1
    assert [Sampler(n_vocab=3)(logits, rank=rank).token_id for rank in range(3)] == [1, 2, 0]


def test_the_log_probability_is_of_the_usable_ids() -> None:
    sampled = Sampler(n_vocab=2)(torch.tensor([0.0, 0.0, 50.0]))
    assert abs(sampled.logprob - torch.tensor(0.5).log().item()) < 1e-6


def test_a_seed_makes_sampling_repeat_itself() -> None:
    logits = torch.randn(50, generator=torch.Generator().manual_seed(0))

    def draw(seed: int) -> list[int]:
        sampler = Sampler(n_vocab=50, temperature=1.0, seed=seed)
        return [sampler(logits).token_id for _ in range(20)]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_sampling_follows_the_probabilities() -> None:
    probs = torch.tensor([0.5, 0.3, 0.2])
    temperature, n_draws = 0.7, 3000
    expected = (probs.log() / temperature).softmax(-1) * n_draws
    sampler = Sampler(n_vocab=3, temperature=temperature, seed=0)
    counts = torch.bincount(torch.tensor([sampler(probs.log()).token_id for _ in range(n_draws)]), minlength=3)
    chi_square = ((counts - expected) ** 2 / expected).sum().item()
    assert chi_square < 13.8  # 2 degrees of freedom, p = 0.001
