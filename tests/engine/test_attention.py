"""What the model's authors did for speed, kept: each row of their list fails here if it is lost."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounter
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from engine.api import EngineError
from engine.attention import BACKENDS, EagerAttention, SdpaAttention, fused_softmax
from engine.backends import choose_attention
from engine.config import GPTBigCodeConfig
from engine.heads import GPTBigCodeForCausalLM
from engine.kv_cache import BLOCK_TOKENS
from tests.engine.pairs import SHAPE, padded, random_ids, relative_error

SYNCHRONISING = ("_local_scalar_dense", "item", "is_nonzero", "nonzero", "equal", "_to_copy")
MASK_MAKING = ("arange", "le", "__and__", "bitwise_and", "bitwise_not", "zeros_like", "masked_fill_", "scalar_tensor", "full")
HOST_TENSORS = ("lift_fresh", "lift")  # torch.tensor(…) of a Python value


class Recorder(TorchDispatchMode):
    """Counts every operation torch is asked for, and keeps the results' shapes, dtypes and addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.n_calls: Counter[str] = Counter()
        self.results: list[tuple[str, Tensor]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.name().removeprefix("aten::").partition(".")[0]
        self.n_calls[name] += 1
        result = function(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.results.append((name, result))
        return result


def model(attention: str = "eager", dtype: torch.dtype = torch.float32, **changes: Any) -> GPTBigCodeForCausalLM:
    config = GPTBigCodeConfig.from_dict({**SHAPE, "n_layer": 4, "n_positions": 1024, **changes})
    torch.manual_seed(0)
    return GPTBigCodeForCausalLM(config, BACKENDS[attention](config)).to(dtype).eval()


def record(ours: GPTBigCodeForCausalLM, *args: Tensor, **options: Any) -> Recorder:
    """What one forward pass asks of torch, the first, which may fill caches, left out."""
    with torch.inference_mode():
        ours(*args, **options)
        if options.get("kv_cache") is not None:
            options["kv_cache"].truncate(options["kv_cache"].length - args[0].shape[1])
        with Recorder() as recorder:
            ours(*args, **options)
    return recorder


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("multi_query", [True, False])
@pytest.mark.parametrize("n_pads", [None, [0, 5]])
def test_causal_and_padding_mask_are_combined_once_per_pass(attention, multi_query, n_pads) -> None:
    """With cached tokens, where both backends need a mask."""
    ids, mask, _ = padded(random_ids((2, 20)), n_pads or [0, 0])
    n_calls = []
    for n_layer in (1, 4):
        ours = model(attention, multi_query=multi_query, n_layer=n_layer)
        cache = ours.new_cache(2)
        with torch.inference_mode():
            ours(ids[:, :12], mask[:, :12], kv_cache=cache)
        counted = record(ours, ids[:, 12:], mask if n_pads else None, kv_cache=cache).n_calls
        n_calls.append({name: counted[name] for name in MASK_MAKING})
    assert n_calls[0] == n_calls[1]
    assert n_calls[0]["le"] == 1  # rows against keys
    assert n_calls[0]["__and__"] == (n_pads is not None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_torchs_kernel_gets_a_mask_that_it_need_not_convert_in_every_layer(dtype) -> None:
    mask = SdpaAttention(GPTBigCodeConfig.from_dict(SHAPE)).prepare(3, 2, None, torch.empty(1, dtype=dtype))
    assert mask.dtype == dtype


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("multi_query", [True, False])
@pytest.mark.parametrize("n_new", [1, 12])
def test_no_pass_waits_for_the_host(attention, multi_query, n_new) -> None:
    ours = model(attention, multi_query=multi_query)
    ids, mask, _ = padded(random_ids((2, 20)), [0, 5])
    cache = ours.new_cache(2)
    with torch.inference_mode():
        ours(ids, mask, kv_cache=cache)
    mask = torch.nn.functional.pad(mask, (0, n_new), value=1)
    n_calls = record(ours, random_ids((2, n_new)), mask, kv_cache=cache, logits_to_keep=1).n_calls
    # conversions between dtypes are copies on the device: the mask to bool, and it again to count positions
    assert {name: n_calls[name] for name in (*SYNCHRONISING, *HOST_TENSORS) if n_calls[name]}.keys() <= {"_to_copy"}
    assert n_calls["_to_copy"] <= 2


def test_what_stands_in_for_masked_scores_is_made_once_per_dtype_and_device() -> None:
    attention = EagerAttention(GPTBigCodeConfig.from_dict(SHAPE))
    q, kv = torch.randn(1, 5, 4, 8), torch.randn(1, 1, 5, 16)
    mask = attention.prepare(5, 0, None, q)
    with Recorder() as recorder:
        for layer_idx in range(3):
            attention(q, kv, mask, layer_idx=layer_idx, dropout_p=0.0)
            attention(q.bfloat16(), kv.bfloat16(), mask, layer_idx=layer_idx, dropout_p=0.0)  # softmax in float32 as well
    assert recorder.n_calls["full"] == 1


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("n_new", [1, 20])
def test_one_key_value_head_is_never_repeated_for_the_others(attention, n_new) -> None:
    """Nothing is copied that is as large as the keys or values would be for all heads."""
    ours = model(attention, n_layer=2, n_embd=64, n_head=8, n_inner=16)
    cache, n_cached = ours.new_cache(), 500
    with torch.inference_mode():
        ours(random_ids((1, n_cached)), kv_cache=cache)
    recorder = record(ours, random_ids((1, n_new)), kv_cache=cache)
    assert not recorder.n_calls.keys() & {"repeat", "repeat_interleave", "index_select"}
    n_repeated = 8 * (n_cached + n_new) * 8
    storages = {result.untyped_storage().nbytes() for name, result in recorder.results if name in ("clone", "expand", "mul")}
    assert all(n_bytes < 4 * n_repeated for n_bytes in storages)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("multi_query", [True, False])
def test_a_new_token_copies_nothing_but_its_own_rows(attention, multi_query) -> None:
    ours = model(attention, multi_query=multi_query)
    cache = ours.new_cache()
    with torch.inference_mode():
        ours(random_ids((1, 50)), kv_cache=cache)
    recorder = record(ours, random_ids((1, 1)), kv_cache=cache)
    assert recorder.n_calls["clone"] == recorder.n_calls["cat"] == recorder.n_calls["contiguous"] == 0
    assert recorder.n_calls["copy_"] == 4  # into the cache, once per layer


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("multi_query", [True, False])
def test_keys_and_values_go_in_as_halves_of_the_cache_uncopied(attention, multi_query, monkeypatch) -> None:
    ours = model(attention, multi_query=multi_query)
    cache, inside = ours.new_cache(), []
    backend = ours.transformer.attention

    class Watch:
        name, prepare = backend.name, staticmethod(backend.prepare)

        def __call__(self, q: Tensor, kv: Tensor, mask: Tensor | None, **options: Any) -> Tensor:
            inside.append(kv)
            return backend(q, kv, mask, **options)

    ours.transformer.attention = Watch()
    with torch.inference_mode():
        for n_new in (10, 1, 1):
            ours(random_ids((1, n_new)), kv_cache=cache)
    assert len({kv.untyped_storage().data_ptr() for kv in inside}) == 1  # all layers in one tensor, never re-allocated
    for kv in inside:
        assert kv.stride()[-2:] == (2 * 8, 1)  # k and v of a token side by side, tokens of a head one after the other
        assert kv.shape[1] == (1 if multi_query else 4)


def test_the_cache_is_not_reallocated_inside_a_block() -> None:
    ours = model("sdpa")
    cache, addresses = ours.new_cache(), []
    with torch.inference_mode():
        for _ in range(BLOCK_TOKENS + 1):
            ours(random_ids((1, 1)), kv_cache=cache)
            addresses.append(cache.store(0, torch.empty(1, 1, 0, 16)).data_ptr())
    assert len(set(addresses[:-1])) == 1
    assert cache.capacity == 2 * BLOCK_TOKENS


def test_keys_and_values_of_a_head_are_one_slice_of_the_projection() -> None:
    """(H, 3, D), not GPT-2's (3, H, D): what goes into the cache is a view."""
    ours = model(multi_query=False)
    attn = ours.transformer.h[0].attn
    h = torch.randn(1, 6, 32)
    q, kv = attn.project(h)
    fused = attn.c_attn(h).view(6, 4, 3, 8)
    assert torch.equal(kv[0], fused[:, :, 1:].flatten(2).transpose(0, 1))
    assert torch.equal(q[0], fused[:, :, 0])
    assert kv.untyped_storage().data_ptr() == q.untyped_storage().data_ptr()


@pytest.mark.parametrize("activation", ["gelu_pytorch_tanh", "gelu"])
def test_activation_is_one_kernel_per_layer(activation) -> None:
    n_calls = record(model(activation_function=activation), random_ids((1, 8))).n_calls
    assert n_calls["gelu"] == 4
    assert n_calls["tanh"] == n_calls["erf"] == n_calls["pow"] == 0


def test_scale_is_folded_into_the_product() -> None:
    n_calls = record(model("eager"), random_ids((1, 8))).n_calls
    assert n_calls["baddbmm"] == 4
    assert n_calls["mul"] == n_calls["div"] == 0


# both flags, dtype -> the softmax's dtype, and whether the layer's factor is taken out and put back
SOFTMAX = [
    (True, True, torch.float16, torch.float32, True),
    (True, False, torch.float16, torch.float32, False),
    (False, True, torch.float16, torch.float16, False),
    (False, False, torch.bfloat16, torch.bfloat16, False),
    (True, True, torch.bfloat16, torch.float32, True),
    (True, True, torch.float32, torch.float32, False),
]


@pytest.mark.parametrize("multi_query", [True, False])
@pytest.mark.parametrize(("in_fp32", "scaled", "dtype", "softmax_dtype", "has_factor"), SOFTMAX)
def test_the_flags_choose_the_softmax(in_fp32, scaled, dtype, softmax_dtype, has_factor, multi_query) -> None:
    flags = {"attention_softmax_in_fp32": in_fp32, "scale_attention_softmax_in_fp32": scaled}
    config = GPTBigCodeConfig.from_dict({**SHAPE, **flags, "multi_query": multi_query})
    n_kv_head = 1 if multi_query else 4
    # scores of 1e5 or so, which float16 holds only divided by the layer's factor
    q, kv = torch.full((1, 3, 4, 8), 250.0, dtype=dtype), torch.full((1, n_kv_head, 3, 16), 150.0, dtype=dtype)
    attention = EagerAttention(config)
    with Recorder() as recorder:
        mixed = attention(q, kv, attention.prepare(3, 0, None, q), layer_idx=7, dropout_p=0.0)
    assert [result.dtype for name, result in recorder.results if name == "_softmax"] == [softmax_dtype]
    assert recorder.n_calls["mul"] == has_factor
    overflows = dtype == torch.float16 and not has_factor
    assert bool(mixed.isfinite().all()) != overflows
    assert mixed.dtype == dtype


def test_fused_softmax_compiles_to_one_function_without_breaks() -> None:
    """What runs compiled on CUDA is the function that runs plain here: no branch of it leaves the graph."""
    scores, mask = torch.randn(2, 4, 5, 5, dtype=torch.bfloat16), torch.ones(5, 5, dtype=torch.bool).tril()
    masked = torch.full((), torch.finfo(torch.float32).min)
    counter = CompileCounter()
    compiled = torch.compile(fused_softmax, dynamic=True, fullgraph=True, backend=counter)
    for unscale in (1, 2, 3, 9, 24):
        for each in (mask, None):
            args = (scores, each, masked, unscale, torch.float32)
            assert torch.equal(compiled(*args), fused_softmax(*args))
    assert counter.frame_count <= 4  # with and without mask, with and without factor: not once per layer


def test_a_softmax_that_cannot_be_compiled_on_a_gpu_runs_as_it_is(caplog) -> None:
    n_tries = 0

    def fail(*_: object) -> Tensor:
        nonlocal n_tries
        n_tries += 1
        raise RuntimeError("Failed to find C compiler.\nPlease specify one")

    attention = EagerAttention(GPTBigCodeConfig.from_dict(SHAPE))
    attention._compiled_softmax = fail
    with FakeTensorMode():
        scores = torch.empty(1, 3, 4, 7, dtype=torch.float16, device="cuda")
        for _ in range(2):
            assert attention._softmax(scores, None, 2).shape == scores.shape
    assert n_tries == 1
    assert "cannot be compiled: Failed to find C compiler." in caplog.text


@pytest.mark.parametrize("multi_query", [True, False])
@pytest.mark.parametrize(("n_new", "n_cached"), [(1, 0), (1, 9), (7, 0), (7, 9)])
@pytest.mark.parametrize("n_pads", [None, [0, 3]])
def test_sdpa_equals_the_reference(multi_query, n_new, n_cached, n_pads) -> None:
    config = GPTBigCodeConfig.from_dict({**SHAPE, "multi_query": multi_query})
    torch.manual_seed(0)
    n_keys = n_new + n_cached
    q, kv = torch.randn(2, n_new, 4, 8), torch.randn(2, 1 if multi_query else 4, n_keys, 16)
    keep = None if n_pads is None else torch.arange(n_keys) >= torch.tensor(n_pads)[:, None]
    seen = torch.ones(2, n_new, dtype=torch.bool) if keep is None else keep[:, n_cached:]  # rows that see a key
    mixed = []
    for attention in (EagerAttention(config), SdpaAttention(config)):
        mask = attention.prepare(n_new, n_cached, keep, q)
        mixed.append(attention(q, kv, mask, layer_idx=0, dropout_p=0.0)[seen])
    assert relative_error(mixed[1], mixed[0]) <= 1e-5


# name, dtype, what its error says
REFUSED = [
    ("flash_attention_2", torch.float16, "needs a CUDA device and a CUDA build of torch"),
    ("flash_attention_2", torch.float32, "takes no float32, cast the model with dtype float16 or bfloat16"),
    ("flash_attention_2", torch.float16, r"not installed, `pip install 'midfill\[flash\]'` does that"),
    ("flash", torch.float32, "attention 'flash' is none of auto, eager, sdpa, flash_attention_2"),
]


@pytest.mark.parametrize(("name", "dtype", "message"), REFUSED)
def test_attention_that_cannot_be_had_says_what_to_do(name, dtype, message) -> None:
    with pytest.raises(EngineError, match=message):
        choose_attention(name, dtype, torch.device("cpu"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_auto_always_finds_one(dtype) -> None:
    assert choose_attention("auto", dtype, torch.device("cpu")) == ("sdpa", "torch's fused kernels")
    assert choose_attention("auto", dtype, None)[0] == "sdpa"
