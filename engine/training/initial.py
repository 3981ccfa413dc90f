"""What training begins with: the model's own random weights, but positions that already know their neighbours."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from engine.config import GPTBigCodeConfig
from engine.heads import GPTBigCodeForCausalLM
from engine.training.packed import PackedAttention

_POSITION_RMS = 0.03  # of the order of the token embeddings' initializer_range, 0.02


def new_model(config: GPTBigCodeConfig, seed: int) -> GPTBigCodeForCausalLM:
    """A model to train, the same for the same seed.

    Its learned positions start as sinusoids, in which "one to the left" is one rotation for all positions. From random rows a
    head that looks there, the first half of induction, has to be learned anew for each of two thousand positions.
    """
    torch.manual_seed(seed)
    model = GPTBigCodeForCausalLM(config, PackedAttention(config))
    with torch.no_grad():
        model.transformer.wpe.weight.copy_(sinusoids(config.n_positions, config.n_embd))
    return model


def sinusoids(n_positions: int, n_embd: int) -> Tensor:
    """Sines and cosines of wavelengths from 2 pi to four times the positions. Shapes: result (n_positions, E).

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5.
    """
    frequencies = torch.exp(torch.linspace(0, -math.log(4 * n_positions / (2 * math.pi)), n_embd // 2))
    angles = torch.arange(n_positions)[:, None] * frequencies  # (n_positions, E / 2)
    return torch.cat([angles.sin(), angles.cos()], dim=1) * _POSITION_RMS * math.sqrt(2)
