"""Muon for the matrices inside the blocks, AdamW for embeddings, norms and biases, over float32 masters.

The model may run in bfloat16: it is a copy of the masters, written back after each step. Sources: Jordan 2024 (Muon, its
quintic Newton-Schulz coefficients); Liu et al. 2025, arXiv:2502.16982 (decoupled weight decay with Muon);
Loshchilov & Hutter 2019, arXiv:1711.05101.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_N_ITERATIONS = 5


@dataclass(frozen=True, slots=True)
class OptimizerOptions:
    """Peak learning rates and the rest; `max_norm` clips the gradient of all parameters together."""

    muon_lr: float = 0.02
    muon_momentum: float = 0.95
    adam_lr: float = 2.5e-3
    position_lr: float = 1e-4  # AdamW's, on wpe: a position is seen so rarely that more would be noise (see `initial`)
    adam_betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1  # times the learning rate; on matrices only
    max_norm: float = 1.0


class MuonAdamW:
    """Steps a model's parameters from their gradients."""

    def __init__(self, model: nn.Module, options: OptimizerOptions) -> None:
        self._options = options
        self._model = dict(model.named_parameters())
        self.masters = {name: parameter.detach().float().clone() for name, parameter in self._model.items()}
        self._muon: dict[torch.Size, list[str]] = defaultdict(list)
        self._adam: list[str] = []
        for name, master in self.masters.items():
            if master.ndim == 2 and ".h." in name:
                self._muon[master.shape].append(name)
            else:
                self._adam.append(name)
        self._momentum = {
            shape: torch.zeros(len(names), *shape, device=self.masters[names[0]].device) for shape, names in self._muon.items()
        }
        self._first = {name: torch.zeros_like(self.masters[name]) for name in self._adam}
        self._second = {name: torch.zeros_like(self.masters[name]) for name in self._adam}
        self._n_steps = 0

    @torch.no_grad()
    def step(self, scale: float, factor: float) -> float:
        """Applies the gradients, multiplied by `scale` and clipped, at `factor` of the peak learning rates, and clears them.

        Returns the gradient's norm before clipping.
        """
        gradients = {
            name: parameter.grad.float() * scale for name, parameter in self._model.items() if parameter.grad is not None
        }
        norm = float(torch.stack([gradient.norm() for gradient in gradients.values()]).norm())
        if norm > self._options.max_norm:
            for gradient in gradients.values():
                gradient.mul_(self._options.max_norm / norm)
        self._n_steps += 1
        for names in self._muon.values():
            self._step_muon(names, gradients, factor)
        self._step_adam(gradients, factor)
        for name, parameter in self._model.items():
            parameter.copy_(self.masters[name])
            parameter.grad = None
        return norm

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs, masters included."""
        return {
            "masters": self.masters,
            "momentum": {self._muon[shape][0]: momentum for shape, momentum in self._momentum.items()},
            "first": self._first,
            "second": self._second,
            "n_steps": self._n_steps,
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up where `state_dict` left off and writes the masters into the model."""
        for name, master in state["masters"].items():
            self.masters[name].copy_(master)
            self._model[name].copy_(master)
        for shape, names in self._muon.items():
            self._momentum[shape].copy_(state["momentum"][names[0]])
        for name in self._adam:
            self._first[name].copy_(state["first"][name])
            self._second[name].copy_(state["second"][name])
        self._n_steps = int(state["n_steps"])

    def _step_muon(self, names: list[str], gradients: dict[str, Tensor], factor: float) -> None:
        """All matrices of one shape at once: on small ones, the calls cost more than the arithmetic."""
        options = self._options
        gradient = torch.stack([gradients[name] for name in names])
        momentum = self._momentum[gradient.shape[1:]]
        momentum.lerp_(gradient, 1 - options.muon_momentum)
        update = orthogonalise(gradient.lerp(momentum, options.muon_momentum))
        n_rows, n_columns = gradient.shape[1:]
        lr = options.muon_lr * factor
        for name, part in zip(names, update, strict=True):
            master = self.masters[name].mul_(1 - lr * options.weight_decay)
            master.add_(part, alpha=-lr * max(1.0, n_rows / n_columns) ** 0.5)

    def _step_adam(self, gradients: dict[str, Tensor], factor: float) -> None:
        """Each position has its own row in wpe, which gets its own learning rate."""
        options = self._options
        beta1, beta2 = options.adam_betas
        correction1, correction2 = 1 - beta1**self._n_steps, 1 - beta2**self._n_steps
        for name in self._adam:
            first = self._first[name].lerp_(gradients[name], 1 - beta1)
            second = self._second[name].mul_(beta2).addcmul_(gradients[name], gradients[name], value=1 - beta2)
            denominator = (second / correction2).sqrt_().add_(1e-8)
            lr = options.position_lr if name.endswith("wpe.weight") else options.adam_lr
            self.masters[name].addcdiv_(first, denominator, value=-lr * factor / correction1)


def orthogonalise(matrices: Tensor) -> Tensor:
    """Brings the singular values of each matrix near 1 and leaves its singular vectors, by Newton-Schulz iteration.

    Shapes: matrices and result (n, rows, columns), float32. Singular values end between about 0.7 and 1.2.
    """
    a, b, c = _NEWTON_SCHULZ
    wide = matrices.mT if matrices.shape[-2] > matrices.shape[-1] else matrices
    x: Tensor = (wide / (wide.norm(dim=(-2, -1), keepdim=True) + 1e-7)).bfloat16()
    for _ in range(_N_ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    x = x.float()
    return x.mT if matrices.shape[-2] > matrices.shape[-1] else x
