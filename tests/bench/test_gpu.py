"""What `make gpu-check` does, at shapes that a CPU runs in a moment: its control flow, its report and its charts."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.bench import gpu
from tests.bench.gpu_charts import CHARTS

torch.set_num_threads(1)  # tiny tensors: threads cost more than they save

TINY = {
    "n_layer": 2,
    "n_embd": 32,
    "n_head": 4,
    "n_positions": 128,
    "vocab_size": 8192,
    "n_inner": 64,
    "initializer_range": 0.2,
}
PLAN = gpu.Plan(
    torch.device("cpu"),
    dtypes=(torch.float32, torch.bfloat16),
    backends=("eager", "sdpa"),
    flash="sdpa",
    parity_shapes=("santacoder", "starcoderbase-7b"),
    parity_layers=2,
    parity_lengths=(1, 33, 70),
    parity_tokens=60,
    documented=("starcoder", (16, 40)),
    timed=(("starcoderbase-1b", (16, 40)), ("santacoder", (16,))),
    theirs=("eager", "sdpa", "flash_attention_2"),
    n_times=1,
    n_tokens=4,
    n_cancels=2,
    copy_bytes=1 << 16,
    changes=TINY,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    folder = tmp_path_factory.mktemp("gpu")
    return gpu.check(PLAN, folder / "gpu.json"), folder


def test_the_report_is_whole_and_what_could_not_be_had_is_named(run) -> None:
    _, folder = run
    written = json.loads((folder / "gpu.json").read_text("utf-8"))
    assert written["left_out"] == []
    assert {
        "documented",
        "starcoderbase-1b",
        "santacoder",
        "santacoder in int8",
        "starcoderbase-1b beside transformers",
        "aims",
    } <= written.keys()
    assert written["starcoderbase-1b beside transformers"]["flash_attention_2"].startswith("not to be had: ")
    assert [row["n_tokens"] for row in written["starcoderbase-1b beside transformers, compiled"]] == [16]
    assert [row["n_tokens"] for row in written["starcoderbase-1b"]["lengths"]] == [16, 40]
    assert len(written["aims"]) == 6
    assert all(isinstance(value, float) for value in written["aims"].values())  # a difference of times may be anything here


def test_every_backend_is_compared_and_none_is_off(run) -> None:
    verdicts = run[0]["parity"]
    assert {(each["shape"], each["backend"], each["dtype"]) for each in verdicts} == {
        (shape, backend, dtype)
        for shape in PLAN.parity_shapes
        for backend in PLAN.backends
        for dtype in ("float32", "bfloat16")
    }
    assert [each for each in verdicts if not each["passed"]] == []
    cases = {each["case"] for each in verdicts}
    assert {
        "in chunks of 37",
        "recorded, the last 16",
        "recorded, ragged side by side",
        "1 of 33",
        "9 behind [0, 32, 69]",
    } <= cases


def test_fused_kernels_are_compared(tmp_path) -> None:
    plan = replace(
        PLAN, backends=("fused",), dtypes=(torch.float32,), parity_shapes=("santacoder",), timed=(), parity_tokens=20
    )
    verdicts = gpu.check(plan, tmp_path / "gpu.json")["parity"]
    assert {each["case"] for each in verdicts} >= {"recorded, the last 16", "recorded, ragged side by side"}
    assert [each for each in verdicts if not each["passed"]] == []


def test_the_charts_are_drawn(run) -> None:
    for name in CHARTS:
        assert (run[1] / name).read_bytes().startswith(b"\x89PNG")


def test_what_fails_is_named_and_the_rest_goes_on(tmp_path) -> None:
    plan = replace(PLAN, backends=("torch_flash", "sdpa"), dtypes=(torch.float16,), parity_shapes=("santacoder",), timed=())
    found = gpu.check(replace(plan, flash="none"), tmp_path / "gpu.json")  # on a CPU torch's own kernels are not there
    assert [part.partition(": not to be had: ")[0] for part in found["left_out"]] == [
        "parity of santacoder, torch_flash, float16",
        "documented",
    ]
    assert {each["backend"] for each in found["parity"]} == {"sdpa"}
    assert found["charts"] == list(CHARTS)


def test_a_text_that_repeats_itself_is_written_by_drafts_that_are_right(run) -> None:
    told = run[0]["santacoder"]["repetitive"]
    assert told["finish"] == "max_tokens"
    assert told["accepted"] == told["drafted"] > 0


def test_what_there_is_no_time_for_is_left_out_by_name(tmp_path) -> None:
    plan = gpu.Plan(torch.device("cpu"), parity_shapes=("santacoder",), timed=(), time_s=-1.0)
    found = gpu.check(plan, tmp_path / "gpu.json")
    parts = [
        f"parity of santacoder, {backend}, {dtype}"
        for backend in ("sdpa", "torch_flash", "fused")
        for dtype in ("float16", "bfloat16")
    ]
    assert found["left_out"] == [f"{part}: no time left" for part in (*parts, "documented")]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, so it would run for minutes")
def test_without_a_gpu_it_says_so_in_one_line() -> None:
    ran = subprocess.run([sys.executable, "-m", "tests.bench.gpu"], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert ran.stderr.strip() == gpu.NO_GPU
    assert ran.stdout == ""
