"""int8 on the CPU: kernels against a slow reference, rows that do not know their neighbours, closeness to float32."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from engine.heads import GPTBigCodeForCausalLM
from engine.native.library import load_library, variants
from engine.quantize import quantize_rows
from engine.quantized_model import QuantizedForCausalLM
from tests.engine.conftest import write_checkpoint

LIBRARY = load_library()
VARIANTS = variants(LIBRARY)
SHAPES = {
    "multi-query": {},
    "multi-head": {"multi_query": False},
    "odd sizes": {"n_embd": 39, "n_head": 3, "n_inner": 55, "vocab_size": 8201},
    "odd multi-head": {"n_embd": 39, "n_head": 3, "n_inner": 55, "multi_query": False},
    "erf": {"activation_function": "gelu"},
    "relu": {"activation_function": "relu"},
    "unscaled, untied": {"scale_attn_weights": False, "tie_word_embeddings": False, "initializer_range": 0.1},
}


def load(folder, n_threads: int = 1, variant: str | None = None) -> QuantizedForCausalLM:
    return QuantizedForCausalLM.from_pretrained(folder, n_threads=n_threads, variant=variant)


def ids_of(n: int, seed: int = 0) -> Tensor:
    return torch.randint(8192, (1, n), generator=torch.Generator().manual_seed(seed))


def in_chunks(model, ids: Tensor, sizes) -> Tensor:
    cache, logits = model.new_cache(), []
    sizes = itertools.cycle(sizes)
    with torch.inference_mode():
        while cache.length < ids.shape[1]:
            chunk = ids[:, cache.length : cache.length + next(sizes)]
            logits.append(model(chunk, kv_cache=cache).logits)
    return torch.cat(logits, dim=1)


def with_rounded_weights(model: GPTBigCodeForCausalLM) -> GPTBigCodeForCausalLM:
    """The float32 model whose weights are the ones that int8 stands for."""
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2 and "wpe" not in name:
            levels, scales = quantize_rows(parameter.data)
            parameter.data = levels * scales[:, None]
    return model


@pytest.mark.parametrize("name", SHAPES)
def test_differs_from_float32_by_the_rounding_of_weights_alone(tmp_path, name) -> None:
    folder = write_checkpoint(tmp_path, **SHAPES[name])
    ids = ids_of(150)
    float32 = GPTBigCodeForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        exact, rounded = float32(ids).logits, with_rounded_weights(float32)(ids).logits
    got = in_chunks(load(folder), ids, [150])
    print(name, float((got - exact).norm() / exact.norm()), float((got - rounded).norm() / rounded.norm()))
    assert (got - exact).norm() < 0.04 * exact.norm()
    assert (got - rounded).norm() < 0.001 * rounded.norm()


@pytest.mark.parametrize("name", SHAPES)
def test_a_row_never_depends_on_how_rows_come_nor_on_threads_nor_on_the_instruction_set(tmp_path, name) -> None:
    folder = write_checkpoint(tmp_path, **SHAPES[name])
    ids = ids_of(150)
    wanted = in_chunks(load(folder), ids, [150])
    for variant, n_threads, sizes in itertools.product(VARIANTS, (1, 2, 3), ([150], [1], [2, 3, 1, 7, 13], [64, 37])):
        assert torch.equal(in_chunks(load(folder, n_threads, variant), ids, sizes), wanted), (variant, n_threads, sizes)
