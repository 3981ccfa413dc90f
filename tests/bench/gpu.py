"""What a GPU is promised: `make gpu-check` writes build/bench/gpu.json and three charts beside it.

Parity of every backend and every recorded pass against the reference at the published shapes; then speeds beside
transformers, with the same random weights in the same run. Fails where a result is further off than its bound.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from engine.api import EngineError
from engine.attention import EagerAttention
from engine.backends import make_appending, make_attention
from engine.graphs import Recorder, StaticDecoder, record_cuda_graph, record_nothing
from engine.heads import GPTBigCodeForCausalLM
from engine.model_files import SHIPPED_MODEL
from engine.steps import GraphStepper
from engine.tokenizer import Tokenizer
from tests.bench import gpu_speed as speed
from tests.bench.gpu_charts import draw
from tests.bench.gpu_parity import Verdict, attention_verdicts, model_verdicts
from tests.bench.shapes import SHAPES, config, random_model

# What keeps a part from being had, and is written instead of it: memory, a package, another release's signature.
FAILURES = (RuntimeError, ImportError, ValueError, TypeError, AttributeError, KeyError, AssertionError, EngineError)
NO_GPU = "gpu-check needs a CUDA device, and this torch sees none; install a CUDA build of torch on a machine with a GPU"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is run, and how much of it; `changes` are made to every shape."""

    device: torch.device
    dtypes: tuple[torch.dtype, ...] = (torch.float16, torch.bfloat16)
    backends: tuple[str, ...] = ("sdpa", "torch_flash", "flash_attn")
    flash: str = "torch_flash"  # the fast one that speeds are measured with, where flash_attn is not installed
    parity_shapes: tuple[str, ...] = tuple(SHAPES)
    parity_layers: int = 4  # of the larger models: what a layer may get wrong shows in four
    parity_lengths: tuple[int, ...] = (1, 33, 512, 2049, 8192)
    parity_tokens: int = 1500
    documented: tuple[str, tuple[int, ...]] = ("starcoder", (2048, 8192))  # the model of the documentation's chart
    timed: tuple[tuple[str, tuple[int, ...]], ...] = (
        ("starcoderbase-1b", (512, 2048, 8064)),
        ("starcoderbase-7b", (512, 2048, 8064)),
        ("santacoder", (512, 1536)),
    )
    theirs: tuple[str, ...] = ("eager", "sdpa", "flash_attention_2")
    compiles: bool = True  # also transformers' static cache, compiled
    n_times: int = 5
    n_tokens: int = 48
    n_cancels: int = 40
    copy_bytes: int = 1 << 31
    time_s: float = 330.0  # what has not begun by then is left out, and named
    changes: dict[str, object] = field(default_factory=dict)

    @property
    def record(self) -> Recorder:
        """What records passes on this device."""
        return record_cuda_graph if self.device.type == "cuda" else record_nothing

    @property
    def clock(self) -> speed.Clock:
        """What times it."""
        return speed.Clock(self.device, self.n_times, self.n_tokens)


class Report:
    """What was found, written after every part: a run that is cut off keeps what it has."""

    def __init__(self, plan: Plan, out: Path) -> None:
        self._out, self._started_s, self._time_s = out, time.monotonic(), plan.time_s
        self.found: dict[str, Any] = {"machine": machine(plan), "parity": [], "left_out": []}

    def part(self, name: str, run: Callable[[], Any]) -> None:
        """Runs a part of the report; what the machine lacks the memory or the package for is named, and left out."""
        if time.monotonic() - self._started_s > self._time_s:
            self.found["left_out"].append(f"{name}: no time left")
            return
        print(f"{time.monotonic() - self._started_s:6.1f} s  {name}", flush=True)
        try:
            self.found[name] = run()
        except FAILURES as error:
            self.found["left_out"].append(f"{name}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
        release(torch.device(self.found["machine"]["device_type"]))
        self.write()

    def write(self) -> None:
        self.found["duration_s"] = round(time.monotonic() - self._started_s, 1)
        self._out.parent.mkdir(parents=True, exist_ok=True)
        self._out.write_text(json.dumps(self.found, indent=2) + "\n", "utf-8")


def machine(plan: Plan) -> dict[str, Any]:
    """Device, driver and versions."""
    on_gpu = plan.device.type == "cuda"
    packages = ("torch", "transformers", "flash-attn", "triton")
    return {
        "device_type": plan.device.type,
        "device": torch.cuda.get_device_name(plan.device) if on_gpu else "CPU",
        "capability": list(torch.cuda.get_device_capability(plan.device)) if on_gpu else None,
        "cuda": torch.version.cuda,
        "driver": driver() if on_gpu else None,
        "versions": {name: version(name) for name in packages},
    }


def driver() -> str | None:
    """The kernel module's version, as it says itself."""
    told = Path("/proc/driver/nvidia/version")
    return told.read_text("utf-8").splitlines()[0] if told.exists() else None


def version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def release(device: torch.device) -> None:
    """Gives back what the last part held."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def parity(plan: Plan, shape_name: str) -> list[dict[str, Any]]:
    """Every backend that can be had, at one shape."""
    return [{**asdict(verdict), "passed": verdict.passed} for verdict in verdicts(plan, shape_name)]


def verdicts(plan: Plan, shape_name: str) -> Iterator[Verdict]:
    shape = config(shape_name, **plan.changes)
    for backend in plan.backends:
        if backend == "flash_attn" and version("flash-attn") is None:
            continue
        for dtype in plan.dtypes:
            lengths = tuple(length for length in plan.parity_lengths if length <= shape.n_positions)
            yield from attention_verdicts(
                shape_name, shape, lambda shape, name=backend: make_attention(name, shape), dtype, lengths, plan.device
            )
            few = config(shape_name, **{**plan.changes, "n_layer": min(shape.n_layer, plan.parity_layers)})
            model = random_model(few, dtype, plan.device)
            model.transformer.attention = make_attention(backend, few)
            yield from model_verdicts(shape_name, model, plan.record, plan.parity_tokens)
            del model
            release(plan.device)


def load_random(plan: Plan, shape_name: str) -> GPTBigCodeForCausalLM:
    """The model that is timed, with the fastest attention that can be had."""
    model = random_model(config(shape_name, **plan.changes), plan.dtypes[0], plan.device)
    flash = "flash_attn" if version("flash-attn") is not None and plan.flash == "torch_flash" else plan.flash
    model.transformer.attention = make_attention(flash, model.config)
    model.n_used_ids = min(model.config.vocab_size, Tokenizer.from_pretrained(SHIPPED_MODEL).n_vocab)
    return model


def documented(plan: Plan) -> dict[str, Any]:
    """The documentation's chart: the native attention beside FlashAttention-2, a whole prompt, at two lengths."""
    name, lengths = plan.documented
    model = load_random(plan, name)
    flash, rows = model.transformer.attention, []
    for n_tokens in lengths:
        row = {"n_tokens": n_tokens, "flash_ms": speed.prefill_ms(model, plan.clock, n_tokens)}
        model.transformer.attention = EagerAttention(model.config)
        row["eager_ms"] = speed.prefill_ms(model, plan.clock, n_tokens)
        model.transformer.attention = flash
        with speed.transformers_model(model, "eager") as theirs:
            row["native_ms"] = speed.their_prefill_ms(theirs, speed.random_ids(model, n_tokens), plan.clock)
        rows.append({**row, "speedup": row["native_ms"] / row["flash_ms"]})
        release(plan.device)
    return {"model": name, "attention": flash.name, "lengths": rows}


def timed(plan: Plan, name: str, lengths: tuple[int, ...]) -> dict[str, Any]:
    """Our speeds at one shape, at each length of the document."""
    model, clock = load_random(plan, name), plan.clock
    static = StaticDecoder(model, make_appending(model.transformer.attention, model.config), plan.record)
    static.warm_up()
    stepper, limit = GraphStepper(model, static), speed.bandwidth(clock, plan.copy_bytes)
    rows = []
    for n_tokens in lengths:
        cached = speed.filled(model, speed.random_ids(model, n_tokens))
        by_rows = {n_rows: speed.decode_ms(static, cached, clock, n_rows) for n_rows in (1, 2, 4, 8, 16)}
        rows.append(
            {
                "n_tokens": n_tokens,
                "prefill_ms": speed.prefill_ms(model, clock, n_tokens),
                "decode_ms": by_rows[1],
                "verify_ms_by_rows": by_rows,
                "decode_unrecorded_ms": speed.decode_unrecorded_ms(model, cached, clock),
                "keystroke_ms": speed.keystroke_ms(model, stepper, cached, clock),
                "hbm_limit_ms": speed.bytes_per_token(model, n_tokens) / limit * 1000,
                "hbm_share": speed.bytes_per_token(model, n_tokens) / limit * 1000 / by_rows[1],
            }
        )
    ids = speed.random_ids(model, lengths[-1])
    cancels = {
        f"cancel_{where}_ms_max": max(speed.cancel_ms(model, stepper, ids, plan.n_cancels, decoding=where == "decode"))
        for where in ("decode", "prefill")
    }
    return {"attention": model.transformer.attention.name, "bytes_per_s": limit, "lengths": rows, **cancels}


def peers(plan: Plan, name: str, lengths: tuple[int, ...]) -> dict[str, Any]:
    """transformers at the same shape with the same weights: each of its attentions, and its static cache compiled."""
    model, found = load_random(plan, name), {}
    for attention in (*plan.theirs, *(("compiled",) if plan.compiles else ())):
        try:
            with speed.transformers_model(model, "sdpa" if attention == "compiled" else attention) as theirs:
                options = {"cache_implementation": "static"} if attention == "compiled" else {}
                if options:
                    theirs.forward = torch.compile(theirs.forward, mode="reduce-overhead")
                found[attention] = [
                    {
                        "n_tokens": n_tokens,
                        "decode_ms": speed.their_decode_ms(theirs, speed.random_ids(model, n_tokens), plan.clock, **options),
                        "prefill_ms": speed.their_prefill_ms(theirs, speed.random_ids(model, n_tokens), plan.clock),
                    }
                    for n_tokens in (lengths[:1] if options else lengths)
                ]
        except FAILURES as error:
            found[attention] = f"not to be had: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        release(plan.device)
    return found


def aims(found: dict[str, Any]) -> dict[str, Any]:
    """The issue's aims that the run can tell, each with what was measured."""
    told: dict[str, Any] = {}
    if "starcoderbase-1b" in found:
        last = found["starcoderbase-1b"]["lengths"][-1]
        told["starcoderbase-1b decode, ms/token, at most 0.95"] = last["decode_ms"]
        told["starcoderbase-1b first token after a keystroke, ms, at most 1.5"] = last["keystroke_ms"]
        told["cancel while decoding, ms, at most 1"] = found["starcoderbase-1b"]["cancel_decode_ms_max"]
        told["cancel in prefill, ms, at most 3"] = found["starcoderbase-1b"]["cancel_prefill_ms_max"]
        theirs = found.get("starcoderbase-1b beside transformers", {}).get("sdpa")
        if isinstance(theirs, list):
            ratios = [row["decode_ms"] / last["decode_ms"] for row in theirs if row["n_tokens"] == last["n_tokens"]]
            told["transformers' decode (sdpa), times ours, at least 8"] = statistics.median(ratios)
    if "santacoder" in found:
        nine = found["santacoder"]["lengths"][0]["verify_ms_by_rows"][16]
        told["santacoder tokens/s where drafts of 8 are right, at least 2500"] = 9 / nine * 1000
    return told


def check(plan: Plan, out: Path) -> dict[str, Any]:
    """Runs the plan; the report as it was written."""
    report = Report(plan, out)
    for name in plan.parity_shapes:
        report.part(f"parity of {name}", lambda name=name: parity(plan, name))
        report.found["parity"] += report.found.pop(f"parity of {name}", [])
    report.part("documented", lambda: documented(plan))
    for name, lengths in plan.timed:
        report.part(name, lambda name=name, lengths=lengths: timed(plan, name, lengths))
        report.part(f"{name} beside transformers", lambda name=name, lengths=lengths: peers(plan, name, lengths))
    report.found["aims"] = aims(report.found)
    report.write()
    draw(report.found, [name for name, _ in plan.timed], out.parent)
    return report.found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/bench/gpu.json"))
    args = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit(NO_GPU)
    found = check(Plan(torch.device("cuda")), args.out)
    failed = [verdict for verdict in found["parity"] if not verdict["passed"]]
    print(json.dumps({"aims": found["aims"], "left_out": found["left_out"], "failed": failed}, indent=2))
    unknown = [part for part in found["left_out"] if part.startswith("parity")]
    if failed or unknown:
        sys.exit(f"{len(failed)} of {len(found['parity'])} results are further off than their bounds; not compared: {unknown}")


if __name__ == "__main__":
    main()
