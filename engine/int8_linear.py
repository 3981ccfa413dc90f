"""Linear layers whose weights are kept in 8 bits on a GPU: half the bytes of the layers that a decoded token waits for.

Products are in half precision, as those of the weights that the levels stand for. The CPU's int8, whose activations are
integers too, is `quantize`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.heads import GPTBigCodeForCausalLM
from engine.model import GPTBigCodeBlock
from engine.quantize import quantize_rows


class Int8Linear(nn.Linear):
    """One scale per output, weight = levels * scale."""

    scale: Tensor

    def __init__(self, layer: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        levels, scale = quantize_rows(layer.weight.detach())
        self.weight = nn.Parameter(levels, requires_grad=False)
        self.register_buffer("scale", scale)
        self.bias = layer.bias

    def forward(self, input: Tensor) -> Tensor:
        """Shapes: input (…, n_in), result (…, n_out)."""
        weight = torch.empty_like(self.weight, dtype=input.dtype)
        torch.mul(self.weight, self.scale[:, None], out=weight)  # rounded once, and written once
        return F.linear(input, weight, self.bias)


def quantize_layers(model: GPTBigCodeForCausalLM) -> None:
    """Has the matrices of all blocks in 8 bits, one at a time. Embeddings and head stay as they are."""
    for block in model.transformer.h:
        assert isinstance(block, GPTBigCodeBlock)
        for module in (block.attn, block.mlp):
            for name, layer in list(module.named_children()):
                assert isinstance(layer, nn.Linear)
                setattr(module, name, Int8Linear(layer))
