"""8-bit weights on a GPU, here on the CPU: the layers that they stand for, by operators and by fused kernels."""

from __future__ import annotations

import copy

import pytest
import torch

from engine.api import EngineError, EngineOptions
from engine.int8_linear import Int8Linear, quantize_layers
from engine.runtime import place
from tests.engine.pairs import random_ids, relative_error
from tests.engine.test_attention import model


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_layer_is_that_of_the_weights_its_levels_stand_for(dtype) -> None:
    layer = torch.nn.Linear(48, 80).to(dtype).requires_grad_(False)
    layer.weight[3] = 0.0
    layer.weight[4] *= 1e-4
    ours, x = Int8Linear(layer), torch.randn(2, 5, 48).to(dtype)
    weight = (ours.weight.float() * ours.scale[:, None]).to(dtype)
    assert torch.equal(ours(x), torch.nn.functional.linear(x, weight, layer.bias))
    exact = ours.weight.float() * ours.scale[:, None]
    step = layer.weight.float().abs().amax(1, keepdim=True) / 127
    assert bool(((exact - layer.weight.float()).abs() <= step * 0.501).all())


def test_blocks_take_half_the_bytes_and_the_rest_stays() -> None:
    ours = model(dtype=torch.float16, n_embd=64)
    before = copy.deepcopy(ours)
    quantize_layers(ours)
    assert torch.equal(ours.lm_head.weight, before.lm_head.weight)
    assert ours.lm_head.weight is ours.transformer.wte.weight
    for got, wanted in zip(ours.transformer.h, before.transformer.h, strict=True):
        for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"):
            assert got.get_submodule(name).weight.nbytes * 2 == wanted.get_submodule(name).weight.nbytes
            assert torch.equal(got.get_submodule(name).bias, wanted.get_submodule(name).bias)
    ids = random_ids((1, 20))
    with torch.inference_mode():
        assert relative_error(ours.float()(ids).logits, before.float()(ids).logits) < 0.1


@pytest.mark.parametrize("shape", [(1, 1), (1, 16), (4, 1)])
def test_fused_kernels_read_levels(shape) -> None:
    pytest.importorskip("triton", reason="Triton has no build for this system")
    from tests.engine.test_fused_forward import both, scores, small

    for dtype, bound in ((torch.float32, 1e-6), (torch.float16, 3e-3)):
        ours = small(dtype=dtype)
        quantize_layers(ours)
        (wanted, wanted_kv), (got, got_kv) = (scores(ours, forward, shape) for forward in both(ours))
        assert relative_error(got, wanted) <= bound
        assert relative_error(got_kv, wanted_kv) <= bound


@pytest.mark.parametrize(
    ("options", "placement"),
    [
        ({"device": "cuda", "dtype": "int8"}, ("cuda", "int8", "torch_flash")),
        ({"device": "cuda", "dtype": "int8", "attention": "sdpa"}, ("cuda", "int8", "sdpa")),
        ({"device": "cuda"}, ("cuda", "float16", "torch_flash")),  # int8 only where it is asked for
        ({"device": "cpu", "dtype": "int8"}, ("cpu", "int8", "native")),
    ],
    ids=str,
)
def test_int8_is_each_devices_own(options, placement, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    chosen = place(EngineOptions(**options))
    assert (str(chosen.device), chosen.dtype_name, chosen.attention) == placement


def test_elsewhere_int8_is_refused_with_what_can_be_had() -> None:
    with pytest.raises(EngineError, match=r"it runs on the CPU and on CUDA devices; take dtype float16, or device cpu"):
        place(EngineOptions(device="mps", dtype="int8"))
