"""Setting up a GPU: kernels that fail or are wrong are left out, with the reason, and the engine serves all the same."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import Tensor

from engine import gpu
from engine.backends import FLASH_BACKENDS
from engine.flash_attention import TorchFlashAttention
from engine.graphs import Pass, record_nothing
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
