"""Fused kernels, compiled for GPUs that need not be there: they fit each, spill next to nothing and fetch weights ahead."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("triton", reason="Triton has no build for this system")

SHARED_BYTES = {80: 163 << 10, 89: 99 << 10, 90: 227 << 10}  # what one program may have, by compute capability


@pytest.mark.parametrize(
    ("shape", "dtype", "precision", "way"),
    [
        ("tiny_starcoder_py", "float16", "half", "waiting"),
        ("starcoderbase-1b", "float16", "int8", "waiting"),
        ("starcoderbase-3b", "bfloat16", "half", "waiting"),
        ("starcoder", "float16", "half", "waiting"),
        ("starcoderbase-1b", "float16", "half", "overlapping"),
    ],
)
def test_every_launch_of_a_published_shape_compiles_and_fits(shape, dtype, precision, way, tmp_path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    told = subprocess.run(
        [sys.executable, "-m", "tests.engine.kernel_targets", shape, dtype, precision, way],
        env={**environment, "TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stderr
    compiled = [json.loads(line) for line in told.stdout.splitlines()]
    assert {each["kernel"] for each in compiled} == {"embed", "linear", "attend", "merge", "pick", "judge"}
    for each in compiled:
        assert each["stack"] <= 32, each  # bytes of registers that are kept in memory
        assert each["shared"] <= SHARED_BYTES[each["capability"]], each
        assert each["is_async"] == (each["kernel"] in ("linear", "attend")), each
        if way == "overlapping":  # of what others write nothing is touched before they have ended
            first = [kind for kind in each["touches"] if not kind.startswith("prefetch")][:2]
            assert first == ["griddepcontrol.launch_dependents", "griddepcontrol.wait"], each
        else:
            assert not any(kind.startswith("griddepcontrol") for kind in each["touches"]), each
