"""Compiles every kernel that a model's passes launch, for GPUs that need not be there; prints what each takes of them.

Run by test_fused_kernels in a process of its own, for there Triton must compile and elsewhere it interprets.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from engine import fused_attention, fused_linear, fused_verdict
from engine.appending import NewRows
from engine.fused_forward import FusedForward
from engine.fused_linear import PASS_SIZES
from engine.graphs import SHAPES
from engine.heads import GPTBigCodeForCausalLM
from engine.int8_linear import quantize_layers
from tests.bench.shapes import config

TOUCH = re.compile(r"(?:@!?%p\d+ )?((?:ld\.global|st\.global|cp\.async|prefetch|griddepcontrol)[a-z_.]*)")
TYPES = {torch.float16: "*fp16", torch.bfloat16: "*bf16", torch.float32: "*fp32", torch.int64: "*i64", torch.int8: "*i8"}
OPTIONS = ("num_warps", "num_stages")
KERNELS = {fused_linear: ("embed", "linear"), fused_attention: ("attend", "merge"), fused_verdict: ("pick", "judge")}


@dataclass
class Launches:
    """Stands in for a kernel, and keeps what it was launched with."""

    kernel: Any
    seen: dict[str, tuple[dict[str, str], dict[str, Any], dict[str, int], list[str]]] = field(default_factory=dict)

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        assert min(grid) > 0
        assert max(grid[1:], default=1) < 1 << 16
        return self._launch

    def _launch(self, *args: Any, **options: Any) -> None:
        names = self.kernel.arg_names
        values = dict(zip(names, args, strict=False)) | {name: options.pop(name) for name in list(options) if name in names}
        signature = {name: _type(name, value) for name, value in values.items()}
        constants = {name: values[name] for name, kind in signature.items() if kind == "constexpr"}
        aligned = [name for name in names if _is_aligned(name, values[name], signature[name])]
        self.seen[repr((signature, constants, options, aligned))] = (signature, constants, options, aligned)


def _type(name: str, value: Any) -> str:
    """As Triton sees an argument: in capitals, None and 1 are compiled in."""
    if isinstance(value, Tensor):
        return TYPES[value.dtype]
    if not name.islower() or (value == 1 and name not in PASS_SIZES):
        return "constexpr"
    return {type(None): "constexpr", int: "i32", float: "fp32"}[type(value)]


def _is_aligned(name: str, value: Any, kind: str) -> bool:
    """Whether Triton takes it for a multiple of 16."""
    is_free = name in PASS_SIZES
    return kind.startswith("*") or (kind == "i32" and not is_free and value % 16 == 0)


def launches(shape: str, dtype: torch.dtype, *, int8: bool, overlaps: bool) -> dict[str, Launches]:
    """Every way in which the passes of a published shape launch each kernel; nothing runs."""
    few = config(shape, n_layer=1)
    with torch.device("meta"):
        model = GPTBigCodeForCausalLM(few).to(dtype).eval()
        if int8:
            quantize_layers(model)
    seen = {name: Launches(getattr(module, name)) for module, names in KERNELS.items() for name in names}
    for module, names in KERNELS.items():
        vars(module).update({name: seen[name] for name in names})
    forward = FusedForward(model, overlaps=overlaps)
    for n_sequences, n_rows in SHAPES:
        ids = torch.zeros(n_sequences, n_rows, dtype=torch.long, device="meta")
        kv = torch.zeros(1, n_sequences, 8448, few.n_kv_head, 2 * few.head_dim, dtype=dtype, device="meta")
        rows = NewRows(torch.zeros(n_sequences, dtype=torch.long, device="meta"), n_rows, 8448)
        logits = forward(ids, kv, rows)
        forward.judge(logits, ids, torch.zeros(n_sequences, device="meta"), torch.zeros((), dtype=torch.long, device="meta"))
    return seen


def resources(kernel: Any) -> dict[str, int]:
    """What a compiled kernel takes of a processor; `stack` bytes are registers that it keeps in memory."""
    tools = Path(triton.__file__).parent / "backends/nvidia/bin"
    with NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        command = [tools / "cuobjdump", "--dump-resource-usage", file.name]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", told)
    assert found is not None
    return {"registers": int(found[1]), "stack": int(found[2]), "shared": kernel.metadata.shared}


def main(shape: str, dtype: str, precision: str, way: str) -> None:
    overlaps = way == "overlapping"
    seen = launches(shape, getattr(torch, dtype), int8=precision == "int8", overlaps=overlaps)
    for name, launched in seen.items():
        for signature, constants, options, aligned in launched.seen.values():
            names = launched.kernel.arg_names
            source = ASTSource(
                fn=launched.kernel,
                signature={name: signature[name] for name in names},
                constexprs={(names.index(name),): value for name, value in constants.items()},
                attrs={(names.index(name),): [["tt.divisibility", 16]] for name in aligned},
            )
            for capability in (90,) if overlaps else (80, 89, 90):
                compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
                ptx = compiled.asm["ptx"]
                told = {
                    "kernel": name,
                    "capability": capability,
                    "is_async": "cp.async" in ptx,
                    "touches": [found[1] for line in ptx.splitlines() if (found := TOUCH.match(line.strip()))],
                }
                print(json.dumps({**told, **options, **resources(compiled)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
