"""The C kernels: exact sums, and what happens where they cannot be compiled."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.api import EngineError, EngineOptions
from engine.config import GPTBigCodeConfig
from engine.native.library import (
    FLAGS,
    OTHER_SOURCES,
    SOURCES,
    Linear,
    NoKernels,
    load_library,
    variants,
)
from engine.native.library import (
    VARIANTS as FLAGS_OF_VARIANTS,
)
from engine.quantize import Quantizer, pack
from engine.quantized_model import Kernels
from engine.runtime import place

LIBRARY = load_library()
VARIANTS = variants(LIBRARY)
MAX_SUM = 2**31 - 1


def empty_model(variant: str, n_threads: int) -> Kernels:
    """Kernels with room for rows of 1024, over a model that is never run."""
    config = GPTBigCodeConfig(vocab_size=16, n_positions=8, n_embd=8, n_layer=1, n_head=1, n_inner=1024)
    shapes = {
        "transformer.wte.weight": (16, 8),
        "transformer.wpe.weight": (8, 8),
        "transformer.h.0.attn.c_attn.weight": (24, 8),
        "transformer.h.0.attn.c_proj.weight": (8, 8),
        "transformer.h.0.mlp.c_fc.weight": (1024, 8),
        "transformer.h.0.mlp.c_proj.weight": (8, 1024),
    }
    norms = [f"transformer.{name}.{kind}" for name in ("h.0.ln_1", "h.0.ln_2", "ln_f") for kind in ("weight", "bias")]
    given = {name: torch.zeros(shape) for name, shape in shapes.items()} | {name: torch.ones(8) for name in norms}
    quantizer = Quantizer(config)
    tensors = dict(itertools.chain.from_iterable(quantizer(name, tensor) for name, tensor in given.items()))
    return Kernels(LIBRARY, config, tensors, n_threads=n_threads, variant=variant)


def products(kernels: Kernels, levels: torch.Tensor, weights: torch.Tensor) -> np.ndarray:
    """The kernels' sums, as float32: every scale is 1 and every bias 0. `levels` reach max_level in each row."""
    n_out, n_in = weights.shape
    packed = pack(weights, (n_out,))
    ones = torch.ones(packed.shape[0] * 16)
    zeros = torch.zeros_like(ones)
    linear = Linear(packed.data_ptr(), ones.data_ptr(), zeros.data_ptr(), n_in, n_out)
    return kernels.multiply(linear, levels.float().contiguous()).numpy()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("n_threads", [1, 3])
def test_sums_are_those_of_whole_numbers_to_the_last_bit(variant, n_threads) -> None:
    kernels = empty_model(variant, n_threads)
    generator = torch.Generator().manual_seed(0)
    for n_in, n_out, n_rows in itertools.product((1, 2, 3, 31, 64, 77, 1023), (1, 15, 16, 17, 50), (1, 2, 5, 6, 7, 12, 13, 30)):
        max_level = min(32767, MAX_SUM // 127 // n_in)
        levels = torch.randint(-max_level, max_level + 1, (n_rows, n_in), generator=generator)
        levels[:, -1] = max_level
        weights = torch.randint(-127, 128, (n_out, n_in), generator=generator).to(torch.int8)
        wanted = (levels.numpy() @ weights.numpy().astype(np.int64).T).astype(np.float32)
        assert np.array_equal(products(kernels, levels, weights), wanted), (n_in, n_out, n_rows)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_sums_do_not_overflow(variant, sign) -> None:
    n_in = 1024
    max_level = MAX_SUM // 127 // n_in
    levels, weights = torch.full((3, n_in), max_level), torch.full((16, n_in), 127 * sign, dtype=torch.int8)
    wanted = np.full((3, 16), np.float32(sign * max_level * 127 * n_in))
    assert np.array_equal(products(empty_model(variant, 1), levels, weights), wanted)


def test_rows_of_zeros_and_huge_rows_are_rows_like_others() -> None:
    kernels = empty_model(VARIANTS[0], 1)
    weights = torch.eye(16, dtype=torch.int8)
    levels = torch.stack([torch.zeros(16), torch.full((16,), 3e38), torch.full((16,), 1e-38)])
    np.testing.assert_allclose(products(kernels, levels, weights), levels.numpy(), rtol=1e-4, atol=1e-30)


def test_an_unknown_instruction_set_is_an_error() -> None:
    with pytest.raises(EngineError, match="avx9"):
        empty_model("avx9", 1)


def test_it_is_compiled_once(tmp_path) -> None:
    load_library(tmp_path)
    (compiled,) = tmp_path.iterdir()
    at_ns = compiled.stat().st_mtime_ns
    load_library(tmp_path)
    assert [path.stat().st_mtime_ns for path in tmp_path.iterdir()] == [at_ns]


def broken_compiler(folder: Path) -> Path:
    path = folder / "cc"
    path.write_text("#!/bin/sh\necho no such header >&2\nexit 1\n")
    path.chmod(0o755)
    return path


def test_no_compiler_and_a_broken_one_are_told_apart(tmp_path) -> None:
    with pytest.raises(NoKernels, match=r"no C compiler \(no-such-cc\)"):
        load_library(tmp_path, ["no-such-cc"])
    with pytest.raises(NoKernels, match="no such header"):
        load_library(tmp_path, [str(broken_compiler(tmp_path))])


def test_a_cache_that_cannot_be_written_is_a_reason(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NoKernels, match="cannot be compiled into"):
        load_library(tmp_path / "file")


def test_without_a_compiler_the_cpu_runs_float32_and_says_why(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    placement = place(EngineOptions(device="cpu"))
    assert (placement.dtype_name, placement.attention) == ("float32", "sdpa")
    assert "int8 cannot be: no C compiler" in placement.reason
    with pytest.raises(EngineError, match="install gcc or clang, or take dtype float32"):
        place(EngineOptions(device="cpu", dtype="int8"))


def test_auto_is_int8_on_the_cpu_unless_another_attention_is_wanted() -> None:
    assert "int8: a quarter of the memory traffic" in place(EngineOptions(device="cpu")).reason
    assert place(EngineOptions(device="cpu", attention="eager")).dtype_name == "float32"
    with pytest.raises(EngineError, match="take attention auto, or dtype float32"):
        place(EngineOptions(device="cpu", attention="sdpa", dtype="int8"))


ARM_COMPILER, ARM_EMULATOR = shutil.which("aarch64-linux-gnu-gcc"), shutil.which("qemu-aarch64")


@pytest.mark.skipif(
    ARM_COMPILER is None or ARM_EMULATOR is None,
    reason="needs aarch64-linux-gnu-gcc, libc6-dev-arm64-cross and qemu-user (Debian's names)",
)
def test_neon_agrees_with_plain_c_to_the_last_bit(tmp_path) -> None:
    check = Path(__file__).with_name("kernels_agree.c")
    units = [*((SOURCES / "kernels.c", flags) for flags in FLAGS_OF_VARIANTS["aarch64"])]
    units += [(path, ()) for path in (*(SOURCES / name for name in OTHER_SOURCES), check)]
    for idx, (path, flags) in enumerate(units):
        command = [ARM_COMPILER, *FLAGS, *flags, "-I", SOURCES, "-c", path, "-o", tmp_path / f"{idx}.o"]
        subprocess.run(command, check=True)
    objects = sorted(tmp_path.glob("*.o"))
    subprocess.run([ARM_COMPILER, *objects, "-o", tmp_path / "check", "-lpthread", "-lm"], check=True)
    command = [ARM_EMULATOR, "-L", "/usr/aarch64-linux-gnu", tmp_path / "check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "neon plain: 0 differ\n"
