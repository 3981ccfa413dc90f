"""FlashAttention-2's two packages: what reaches the kernels, and that the result is the reference's."""

from __future__ import annotations

import importlib.util
import sys

import pytest
import torch
from torch import Tensor

from engine.api import EngineError
from engine.appending import MaskedAppending, NewRows
from engine.attention import EagerAttention, causal_mask
from engine.backends import FLASH_BACKENDS, choose_attention, make_appending, make_attention
from engine.config import GPTBigCodeConfig
from engine.flash_attention import FlashAttention, TorchFlashAttention, choose_flash
from tests.engine.flash_kernels import ReferenceKernels
from tests.engine.pairs import SHAPE, relative_error

BOTH = pytest.mark.parametrize("name", list(FLASH_BACKENDS))
HEADS = pytest.mark.parametrize("multi_query", [True, False])
LENGTHS = [(1, 0), (1, 9), (7, 0), (7, 9), (16, 300)]  # new, cached
MAX_ERROR = 1e-2  # relative, bfloat16


def config(**changes: object) -> GPTBigCodeConfig:
    return GPTBigCodeConfig.from_dict({**SHAPE, **changes})


def backend(
    name: str, shape: GPTBigCodeConfig, window: int | None = None, *, is_paged: bool | None = None
) -> tuple[FlashAttention | TorchFlashAttention, ReferenceKernels]:
    kernels = ReferenceKernels(shape)
    if name == FlashAttention.name:
        return FlashAttention(shape, kernels.of_flash_attn(), window=window), kernels
    return TorchFlashAttention(shape, kernels.flash_attention_forward, is_paged=is_paged, window=window), kernels


def inputs(n_new: int, n_keys: int, shape: GPTBigCodeConfig, n_batch: int = 2) -> tuple[Tensor, Tensor]:
    """Queries, and a cache with room behind it, as the model hands both in: views of larger tensors."""
    torch.manual_seed(0)
    q = torch.randn(n_batch, n_new, shape.n_head * 8 + 16).bfloat16()[..., : shape.n_head * 8]
    kv = torch.randn(n_batch, shape.n_kv_head, n_keys + 5, 16).bfloat16()
    return q.unflatten(-1, (shape.n_head, 8)), kv[:, :, :n_keys]


@BOTH
@HEADS
@pytest.mark.parametrize(("n_new", "n_cached"), LENGTHS)
@pytest.mark.parametrize("n_pads", [None, [0, 3]])
def test_attention_is_the_reference_s(name, multi_query, n_new, n_cached, n_pads) -> None:
    shape = config(multi_query=multi_query)
    q, kv = inputs(n_new, n_new + n_cached, shape)
    keep = None if n_pads is None else torch.arange(n_new + n_cached) >= torch.tensor(n_pads)[:, None]
    seen = torch.ones(2, n_new, dtype=torch.bool) if keep is None else keep[:, n_cached:]
    mixed = []
    for attention in (EagerAttention(shape), backend(name, shape)[0]):
        mask = attention.prepare(n_new, n_cached, keep, q)
        mixed.append(attention(q, kv, mask, layer_idx=3, dropout_p=0.0)[seen])
    assert relative_error(mixed[1], mixed[0]) <= MAX_ERROR


@BOTH
@HEADS
def test_a_window_hides_what_is_further_to_the_left(name, multi_query) -> None:
    shape = config(multi_query=multi_query)
    q, kv = inputs(6, 20, shape)
    mask = causal_mask(6, 14, None, q.device).triu(14 - 3)  # row 0 is the 15th key's: itself and the three before it
    assert mask.sum(-1).unique().tolist() == [4]
    wanted = EagerAttention(shape)(q, kv, mask, layer_idx=0, dropout_p=0.0)
    attention, kernels = backend(name, shape, window=4)
    got = attention(q, kv, attention.prepare(6, 14, None, q), layer_idx=0, dropout_p=0.0)
    assert relative_error(got, wanted) <= MAX_ERROR
    assert kernels.calls[0][1]["window_size"][0] == 3


@BOTH
@HEADS
def test_keys_and_values_reach_the_kernel_as_halves_of_the_cache(name, multi_query) -> None:
    shape = config(multi_query=multi_query)
    q, kv = inputs(5, 12, shape)
    attention, kernels = backend(name, shape)
    attention(q, kv, attention.prepare(5, 7, None, q), layer_idx=3, dropout_p=0.0)
    for _, arguments in kernels.calls:
        key, value = arguments["k"], arguments["v"]
        assert key.untyped_storage().data_ptr() == kv.untyped_storage().data_ptr()
        assert value.data_ptr() - key.data_ptr() == 8 * key.element_size()
        assert key.shape[-2] == shape.n_kv_head  # one head stays one
        assert arguments["q"].data_ptr() - q.data_ptr() in (0, q.stride(0) * q.element_size())
        assert arguments["softmax_scale"] == 8**-0.5  # the layer's factor is never given to a fused kernel


@pytest.mark.parametrize(("name", "is_paged"), [("flash_attn", None), ("torch_flash", True), ("torch_flash", False)])
@HEADS
@pytest.mark.parametrize("n_new", [1, 2, 5, 16])
@pytest.mark.parametrize("lengths", [[0], [300], [0, 511, 37]])
def test_appending_is_the_reference_s_and_writes_the_new_rows_only(name, is_paged, multi_query, n_new, lengths) -> None:
    shape = config(multi_query=multi_query)
    q, new = inputs(n_new, n_new, shape, len(lengths))
    kv = torch.randn(len(lengths), 1024, shape.n_kv_head, 16).bfloat16()
    rows = NewRows(torch.tensor(lengths), n_new, 1024)
    attention, kernels = backend(name, shape, is_paged=is_paged)
    wanted_kv, got_kv = kv.clone(), kv.clone()
    wanted = MaskedAppending(shape).append(q, new, wanted_kv, rows, layer_idx=0)
    got = attention.append(q, new, got_kv, rows, layer_idx=3)
    assert relative_error(got, wanted) <= MAX_ERROR
    assert torch.equal(got_kv, wanted_kv)
    assert int((got_kv != kv).any(-1).sum()) == new[..., 0].numel()
    assert kernels.calls[0][1]["k"].untyped_storage().data_ptr() == got_kv.untyped_storage().data_ptr()


@HEADS
@pytest.mark.parametrize("n_new", [1, 4])
def test_appending_attends_as_a_growing_cache_does(multi_query, n_new) -> None:
    shape = config(multi_query=multi_query)
    q, keys = inputs(n_new, 20 + n_new, shape)
    kv = torch.full((2, 256, shape.n_kv_head, 16), torch.nan).bfloat16()
    kv[:] = 7.0  # what stands behind the rows in use
    kv[:, :20] = keys[:, :, :20].transpose(1, 2)
    rows = NewRows(torch.tensor([20, 20]), n_new, 256)
    got = MaskedAppending(shape).append(q, keys[:, :, 20:], kv, rows, layer_idx=0)
    eager = EagerAttention(shape)
    assert relative_error(got, eager(q, keys, eager.prepare(n_new, 20, None, q), layer_idx=0, dropout_p=0.0)) <= MAX_ERROR


def test_the_bound_on_keys_is_the_caches_so_that_a_recorded_pass_never_needs_another_kernel() -> None:
    shape = config()
    attention, kernels = backend(TorchFlashAttention.name, shape)
    q, new = inputs(2, 2, shape)
    attention.append(q, new, torch.zeros(2, 512, 1, 16).bfloat16(), NewRows(torch.tensor([3, 4]), 2, 512), layer_idx=0)
    assert kernels.calls[0][1]["max_k"] == 512


@BOTH
def test_float32_is_refused_by_name(name) -> None:
    attention, _ = backend(name, config())
    with pytest.raises(EngineError, match=r"takes no torch.float32; cast the model to float16 or bfloat16"):
        attention.prepare(3, 0, None, torch.zeros(1))


@pytest.mark.parametrize(("n_embd", "n_head"), [(48, 4), (1056, 4)])
def test_heads_that_the_kernels_do_not_take_are_refused(n_embd, n_head) -> None:
    with pytest.raises(EngineError, match=f"the model's have {n_embd // n_head}; 'sdpa' works everywhere"):
        make_attention(TorchFlashAttention.name, config(n_embd=n_embd, n_head=n_head))


@BOTH
def test_flash_asked_for_where_there_is_no_gpu_says_so(name) -> None:
    with pytest.raises(EngineError, match=f"attention '{name}': it needs a CUDA device"):
        choose_attention(name, torch.float16, torch.device("cpu"))


def test_backends_that_cannot_append_are_stood_in_for_by_the_reference() -> None:
    shape = config()
    flash, _ = backend(TorchFlashAttention.name, shape)
    assert make_appending(flash, shape) is flash
    assert isinstance(make_appending(make_attention("sdpa", shape), shape), MaskedAppending)


BROKEN = "raise ImportError('undefined symbol: _ZN3c10\\nin flash_attn_2_cuda.so')"
PACKAGES = [  # what a flash_attn package holds, which serves, what the reason says
    (None, "torch_flash", "is not installed"),
    (BROKEN, "torch_flash", "cannot be loaded: undefined symbol: _ZN3c10"),
    ("", "torch_flash", "cannot be loaded: "),
    ("flash_attn_func = flash_attn_with_kvcache = print", "flash_attn", "which is installed"),
]


@pytest.mark.parametrize(("source", "name", "reason"), PACKAGES)
def test_a_flash_attn_package_that_cannot_be_loaded_gives_way_to_torch_s_own(
    source, name, reason, tmp_path, monkeypatch
) -> None:
    if source is None and importlib.util.find_spec("flash_attn") is not None:
        pytest.skip("the flash-attn package is installed here")
    if source is not None:
        (tmp_path / "flash_attn.py").write_text(source, "utf-8")
        monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "flash_attn", raising=False)
    chosen, why = choose_flash()
    sys.modules.pop("flash_attn", None)
    assert chosen == name
    assert reason in why
