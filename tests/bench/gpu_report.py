"""The report of a run on a GPU: its parts, what failed in place of what was wanted, and the machine."""

from __future__ import annotations

import gc
import importlib.metadata
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


class Report:
    """What was found, written after every part: a run that is cut off keeps what it has."""

    def __init__(self, device: torch.device, time_s: float, out: Path) -> None:
        """`time_s`: what has not begun by then is left out, and named."""
        self._device, self._out, self._started_s, self._time_s = device, out, time.monotonic(), time_s
        self.parity: list[dict[str, Any]] = []
        self.found: dict[str, Any] = {"machine": machine(device), "parity": self.parity, "left_out": []}

    def part(self, name: str, run: Callable[[], Any]) -> None:
        """Runs a part of the report; what the machine lacks the memory or the package for is named, and left out."""
        if time.monotonic() - self._started_s > self._time_s:
            self.found["left_out"].append(f"{name}: no time left")
            return
        print(f"{time.monotonic() - self._started_s:6.1f} s  {name}", flush=True)
        self.end(name, run)

    def end(self, name: str, run: Callable[[], Any]) -> None:
        """A part for which there is always time."""
        value = tried(run)
        if isinstance(value, Failure):
            self.found["left_out"].append(f"{name}: {value}")
        elif value is not None:
            self.found[name] = value
        release(self._device)
        self.write()

    def write(self) -> None:
        self.found["duration_s"] = round(time.monotonic() - self._started_s, 1)
        self._out.parent.mkdir(parents=True, exist_ok=True)
        self._out.write_text(json.dumps(self.found, indent=2) + "\n", "utf-8")


class Failure(str):
    """Why something could not be had: memory, a package, another release's signature."""

    __slots__ = ()


def tried(run: Callable[[], Any]) -> Any:
    """The result, or the failure that is written in its place; the report goes on."""
    try:
        return run()
    except Exception as error:
        return Failure(f"not to be had: {type(error).__name__}: {str(error).partition(chr(10))[0]}")


def machine(device: torch.device) -> dict[str, Any]:
    """Device, driver and versions."""
    on_gpu = device.type == "cuda"
    packages = ("torch", "transformers", "flash-attn", "triton")
    return {
        "device_type": device.type,
        "device": torch.cuda.get_device_name(device) if on_gpu else "CPU",
        "capability": list(torch.cuda.get_device_capability(device)) if on_gpu else None,
        "memory_bytes": torch.cuda.get_device_properties(device).total_memory if on_gpu else None,
        "cuda": torch.version.cuda,
        "sdpa_may_choose_cudnn": torch.backends.cuda.cudnn_sdp_enabled(),
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
