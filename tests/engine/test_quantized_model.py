"""int8 on the CPU: kernels against a slow reference, rows that do not know their neighbours, closeness to float32."""

from __future__ import annotations

import argparse
import ast
import inspect
import itertools
import statistics
import textwrap
import time

import pytest
import torch
from torch import Tensor, nn

from engine.heads import GPTBigCodeForCausalLM
from engine.model_files import SHIPPED_MODEL
from engine.native.library import load_library, variants
from engine.quantize import FINE, quantize_rows
from engine.quantized_model import QuantizedForCausalLM
from engine.tokenizer import Tokenizer
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


def normed(model: QuantizedForCausalLM, weights: GPTBigCodeForCausalLM, ids: Tensor) -> Tensor:
    """What goes into the head."""
    with torch.inference_mode():
        h = model.transformer(ids, model.new_cache())
        return weights.transformer.ln_f(h)


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
        if parameter.dim() == 2 and "wpe" not in name and "wte" not in name:
            parameter.data = rounded(parameter.data, n_times=2 if name in FINE else 1)
    model.lm_head.weight = nn.Parameter(rounded(model.lm_head.weight.data))  # untied from the embedding, which stays exact
    return model


def rounded(weight: Tensor, n_times: int = 1) -> Tensor:
    total = torch.zeros_like(weight)
    for _ in range(n_times):
        levels, scales = quantize_rows(weight - total)
        total += levels * scales[:, None]
    return total


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
    for variant, n_threads, sizes in itertools.product(VARIANTS, (1, 3), ([150], [1], [2, 3, 1, 7, 13, 64])):
        assert torch.equal(in_chunks(load(folder, n_threads, variant), ids, sizes), wanted), (variant, n_threads, sizes)


@pytest.mark.parametrize(
    ("dtype", "changes"),
    [
        (torch.float32, {}),
        (torch.float16, {}),
        (torch.bfloat16, {}),
        (torch.float16, {"tie_word_embeddings": False}),
        (torch.float32, {"n_embd": 39, "n_head": 3}),
    ],
    ids=str,
)
def test_the_best_token_is_that_of_the_weights_as_they_were_stored(tmp_path, dtype, changes) -> None:
    """And its score, and those of all that rounding could have taken for it; the rest are as rounded weights give them."""
    folder = write_checkpoint(tmp_path, **changes)
    GPTBigCodeForCausalLM.from_pretrained(folder, dtype=dtype).save_pretrained(folder)
    model, weights = load(folder), GPTBigCodeForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = ids_of(300)
    got, head_weight = in_chunks(model, ids, [150])[0], weights.lm_head.weight.detach()
    x = normed(model, weights, ids)[0]
    exact, coarse = x @ head_weight.T, x @ rounded(head_weight).T
    rows, best = torch.arange(300), exact.argmax(-1)
    assert torch.equal(got.argmax(-1), best)
    assert not torch.equal(coarse.argmax(-1), best)
    torch.testing.assert_close(got[rows, best], exact[rows, best], rtol=2e-4, atol=1e-4)
    torch.testing.assert_close(got, coarse, rtol=0.02, atol=0.02)


def test_what_goes_into_each_layer_is_near_float32(tmp_path) -> None:
    folder = write_checkpoint(tmp_path, n_layer=6, initializer_range=0.08)
    ids, seen = ids_of(100), []
    model = load(folder)
    for block in model.transformer.h:
        block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    with torch.inference_mode():
        model(ids)
        wanted = GPTBigCodeForCausalLM.from_pretrained(folder, dtype=torch.float32)(
            ids, output_hidden_states=True
        ).hidden_states
    errors = [float((got - exact).norm() / exact.norm()) for got, exact in zip(seen, wanted, strict=False)]
    print([f"{error:.4f}" for error in errors])
    assert len(errors) == 6
    assert errors[0] < 0.006  # of the embeddings alone
    assert max(errors) < 0.02


def test_the_shipped_model_predicts_as_in_float32() -> None:
    """Teacher-forced, over code that the model was not trained on: the standard library's."""
    model, tokenizer = load(SHIPPED_MODEL, n_threads=2), Tokenizer.from_pretrained(SHIPPED_MODEL)
    exact = GPTBigCodeForCausalLM.from_pretrained(SHIPPED_MODEL, dtype=torch.float32)
    n_same = n_all = 0
    for module in (argparse, ast, textwrap, statistics):
        ids = torch.tensor([tokenizer.encode(inspect.getsource(module))[:700]])
        with torch.inference_mode():
            same = model(ids).logits.argmax(-1) == exact(ids).logits.argmax(-1)
        n_same, n_all = n_same + int(same.sum()), n_all + same.numel()
    print(f"{n_same} of {n_all} agree")
    assert n_same >= 0.99 * n_all


def test_threads_sleep_while_there_is_nothing_to_do(tmp_path) -> None:
    model = load(write_checkpoint(tmp_path), n_threads=3)
    model(ids_of(10))
    time.sleep(0.1)  # they look around for a moment first
    before_s = time.process_time()
    time.sleep(1.0)
    assert time.process_time() - before_s < 0.005


def test_an_id_that_is_none_is_an_error_and_not_a_read_of_other_memory(checkpoint) -> None:
    with pytest.raises(IndexError, match="out of range"):
        load(checkpoint)(torch.tensor([[8192]]))


def test_a_pass_that_is_abandoned_leaves_the_cache_as_it_was(checkpoint) -> None:
    model, ids = load(checkpoint), ids_of(40)
    cache = model.new_cache()
    wanted = model(ids, kv_cache=cache).logits[:, 10:]
    cache.truncate(10)
    n_layers = 0

    def stop() -> None:
        nonlocal n_layers
        n_layers += 1
        if n_layers == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model(ids_of(30, seed=1), kv_cache=cache, before_layer=stop)
    assert cache.length == 10
    assert torch.equal(model(ids[:, 10:], kv_cache=cache).logits, wanted)
