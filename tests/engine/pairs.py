"""transformers' model and ours with the same random weights, and how far apart their tensors are."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor

import engine
from engine.attention import BACKENDS

SHAPE = {"vocab_size": 99, "n_positions": 256, "n_embd": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.2}
IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def pair(kind: str, attention: str, *, seed: int = 0, **changes: Any) -> tuple[Any, Any]:
    """Both models of the class GPTBigCode`kind`, in evaluation; `attention` is the backend that both use."""
    values = {**SHAPE, **IDS, **changes}
    torch.manual_seed(seed)
    theirs = getattr(transformers, f"GPTBigCode{kind}")(transformers.GPTBigCodeConfig(**values))
    theirs.set_attn_implementation(attention)
    config = engine.GPTBigCodeConfig.from_dict(values)
    ours = getattr(engine, f"GPTBigCode{kind}")(config, BACKENDS[attention](config))
    ours.load_state_dict(theirs.state_dict())
    return theirs.eval(), ours.eval()


def stirred(model: Any) -> Any:
    """The model with random norms and biases: a fresh one's hide what is left out."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.normal_(std=0.5, generator=generator)
    return model


def random_ids(shape: tuple[int, ...], n_vocab: int = 99, seed: int = 1) -> Tensor:
    """Ids that are none of the special ones."""
    return torch.randint(3, n_vocab, shape, generator=torch.Generator().manual_seed(seed))


def padded(ids: Tensor, n_pads: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Each row padded on the left with so many tokens; ids, mask, and the positions of the real tokens."""
    mask = (torch.arange(ids.shape[1]) >= torch.tensor(n_pads)[:, None]).long()
    return ids * mask, mask, (mask.cumsum(-1) - 1).masked_fill(mask == 0, 1)


def relative_error(got: Tensor, wanted: Tensor) -> float:
    """The largest difference over the largest value wanted."""
    assert got.shape == wanted.shape
    got, wanted = got.detach().float(), wanted.detach().float()
    return float((got - wanted).abs().max() / wanted.abs().max())
