"""Setting up a GPU: kernels that fail or are wrong are left out, with the reason, and the engine serves all the same."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from engine import gpu
from engine.appending import NewRows
from engine.backends import FLASH_BACKENDS, make_appending
from engine.flash_attention import TorchFlashAttention
from engine.graphs import Pass, StaticDecoder, record_nothing
from engine.heads import GPTBigCodeForCausalLM
from engine.static_forward import OperatorForward, StaticForward
from engine.steps import EagerStepper, GraphStepper
from tests.engine.flash_kernels import ReferenceKernels
from tests.engine.test_attention import model
from tests.engine.test_flash_attention import backend


def wrong(result: Tensor) -> Tensor:
    return result * 1.1


def nan(result: Tensor) -> Tensor:
    return result * torch.nan


def raising(result: Tensor) -> Tensor:
    raise RuntimeError("no kernel image is available\nfor execution on the device")


UNFIT = [
    (wrong, "its result is "),
    (nan, "its result is nan off"),
    (raising, "RuntimeError: no kernel image is available"),
]


@pytest.mark.parametrize("name", list(FLASH_BACKENDS))
@pytest.mark.parametrize("multi_query", [True, False])
def test_kernels_that_are_the_reference_s_are_fit(name, multi_query) -> None:
    ours = model(dtype=torch.bfloat16, multi_query=multi_query)
    assert gpu.why_unfit(backend(name, ours.config)[0], ours) is None


@pytest.mark.parametrize(("change", "reason"), UNFIT)
def test_kernels_that_fail_or_are_wrong_give_way_to_sdpa_with_the_reason(change, reason, caplog) -> None:
    ours = model(dtype=torch.bfloat16)
    kernels = ReferenceKernels(ours.config)

    def forward(*args: Any, **options: Any) -> tuple[Tensor, ...]:
        return change(kernels.flash_attention_forward(*args, **options)[0]), args[0]

    ours.transformer.attention = TorchFlashAttention(ours.config, forward)
    with caplog.at_level(logging.WARNING):
        stepper = gpu.set_up(ours, record_nothing)
    assert isinstance(stepper, GraphStepper)
    assert ours.transformer.attention.name == "sdpa"
    assert f"attention torch_flash is not used: {reason}" in caplog.text


def test_passes_that_cannot_be_recorded_run_plainly(caplog) -> None:
    def record(run: Pass) -> Pass:
        raise RuntimeError("operation not permitted when stream is capturing")

    with caplog.at_level(logging.WARNING):
        assert isinstance(gpu.set_up(model(), record), EagerStepper)
    assert "operation not permitted when stream is capturing" in caplog.text


class Changed(OperatorForward):
    """torch's operators under another name, with something done to their scores."""

    name = "changed"

    def __init__(self, ours: GPTBigCodeForCausalLM, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__(ours, make_appending(ours.transformer.attention, ours.config))
        self._change = change

    def __call__(self, ids: Tensor, kv: Tensor, rows: NewRows) -> Tensor:
        return self._change(super().__call__(ids, kv, rows))


def late(result: Tensor) -> Tensor:
    for _ in range(2000):
        result.add_(0.0)
    return result


def unsteady(result: Tensor) -> Tensor:
    return result + torch.rand(1) * 1e-6


def chosen(candidate: gpu.MakeForward) -> StaticDecoder:
    ours = model()
    static = StaticDecoder(ours, gpu.operators(ours), record_nothing)
    gpu.choose_forward(static, (candidate,))
    return static


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (wrong, "their scores are 1.0e-01 off"),
        (nan, "their scores are nan off"),
        (unsteady, "their scores are not the same"),
        (raising, UNFIT[-1][1]),
        (late, "they take "),
    ],
)
def test_another_way_that_fails_or_is_wrong_or_slower_is_not_taken(change, reason, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        assert chosen(lambda ours: Changed(ours, change)).forward.name == "operators"
    assert f"passes of a few rows do not take fused kernels: {reason}" in caplog.text


def test_widths_that_fused_kernels_do_not_take_are_no_error(caplog) -> None:
    def make(ours: GPTBigCodeForCausalLM) -> StaticForward:
        raise ValueError("widths (40, 160) are no multiples of 16")

    with caplog.at_level(logging.WARNING):
        assert chosen(make).forward.name == "operators"
    assert "do not take fused kernels: ValueError: widths (40, 160)" in caplog.text


def test_the_first_other_way_that_agrees_and_is_faster_is_taken(caplog) -> None:
    def raise_first(ours: GPTBigCodeForCausalLM) -> StaticForward:
        raise ImportError("No module named 'triton'")

    ours = model()
    static = StaticDecoder(ours, Changed(ours, late), record_nothing)
    with caplog.at_level(logging.INFO):
        gpu.choose_forward(static, (raise_first, gpu.operators))
    assert static.forward.name == "operators"
    assert "passes of a few rows are operators: " in caplog.text
    assert "do not take fused kernels: ImportError: No module named 'triton'" in caplog.text


@pytest.mark.parametrize(("capability", "names"), [((8, 9), ["fused"]), ((9, 0), ["fused, overlapping", "fused"])])
def test_kernels_overlap_where_the_device_knows_how(capability, names, monkeypatch) -> None:
    pytest.importorskip("triton", reason="Triton has no build for this system")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    ways = gpu.fused_ways(torch.device("cuda"))
    assert [make(model()).name for make in ways] == names
