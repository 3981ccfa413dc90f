"""Packed training = the engine's model, sample by sample."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

import engine.training.packed as packed
from engine.attention import EagerAttention
from engine.heads import GPTBigCodeForCausalLM
from engine.training.batches import pack
from engine.training.packed import PackedAttention, packed_loss
from engine.training.recipe import shape
from engine.training.samples import Sample

CONFIG = shape(n_layer=2, n_embd=32, n_head=4, n_vocab=60, n_positions=64)


def model_with_wide_weights() -> GPTBigCodeForCausalLM:
    torch.manual_seed(0)
    model = GPTBigCodeForCausalLM(CONFIG, PackedAttention(CONFIG))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5)
    return model


def samples(*lengths: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(CONFIG.vocab_size, (length,), generator=generator).tolist() for length in lengths]


def test_packed_loss_and_gradients_are_those_of_separate_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "_BLOCK", 16)  # several blocks per sample, the last one ragged
    monkeypatch.setattr(packed, "_LOSS_CHUNK", 24)
    model, drawn = model_with_wide_weights(), samples(40, 1, 16, 33)
    loss = packed_loss(model, pack([Sample(ids, len(ids)) for ids in drawn]))
    loss.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    model.transformer.attention = EagerAttention(CONFIG)
    ids = [torch.tensor(sample) for sample in drawn]
    apart = sum(F.cross_entropy(model(row[None]).logits[0, :-1], row[1:], reduction="sum") for row in ids if len(row) > 1)
    apart.backward()
    torch.testing.assert_close(loss, apart, rtol=1e-6, atol=0)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-4, atol=1e-5 * float(parameter.grad.abs().max()))


def test_a_weight_counts_a_label_that_often() -> None:
    model, [ids] = model_with_wide_weights(), samples(30)

    def loss_and_gradient(middle_weight: float, n_prompt: int) -> tuple[torch.Tensor, torch.Tensor]:
        model.zero_grad()
        loss = packed_loss(model, pack([Sample(ids, n_prompt)], middle_weight))
        loss.backward()
        return loss.detach(), model.transformer.wte.weight.grad.clone()

    plain, of_middle = loss_and_gradient(1, 20), loss_and_gradient(0, 20)
    for weighed, whole, without in zip(loss_and_gradient(3, 20), plain, of_middle, strict=True):
        torch.testing.assert_close(weighed, 3 * whole - 2 * without, rtol=1e-4, atol=1e-5 * float(whole.abs().max()))


def test_a_sample_does_not_see_its_neighbour() -> None:
    model = model_with_wide_weights()

    def hidden(*row: list[int]) -> torch.Tensor:
        packed_row = pack([Sample(ids, len(ids)) for ids in row])
        model.transformer.attention.lengths = packed_row.lengths
        return model.transformer(packed_row.ids[None], position_ids=packed_row.positions[None]).last_hidden_state[0]

    first, changed, second = samples(20, 20, 30)
    assert hidden(first, second)[20:].equal(hidden(changed, second)[20:])
    assert not hidden(first, second)[:20].equal(hidden(changed, second)[:20])
