"""All that a bug report needs, on one page, without a line of anybody's source."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from lsp_server.settings import Checked, Settings

_PACKAGES = ("midfill", "pygls", "lsprotocol", "torch", "tokenizers", "safetensors", "msgspec", "tree-sitter")
_ENVIRONMENT = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "HF_HOME", "XDG_RUNTIME_DIR")
_PATIENCE_S = 60.0


def report(checked: Checked, config: Path, state: Path) -> str:
    """Gives the page: versions, machine, settings that differ from their defaults, engines that run, and where files are."""
    sections = {
        "versions": _versions(),
        "machine": _machine(),
        "settings": _settings(checked, config),
        "model": _engine_says("models", "path", checked.settings.model),
        "engines": _engine_says("status"),
        "files": _files(config, state),
    }
    return "\n".join(f"{title}\n" + "\n".join(f"  {line}" for line in lines) for title, lines in sections.items())


def _versions() -> Iterator[str]:
    yield f"python {platform.python_version()} at {_at_home(sys.executable)}"
    for name in _PACKAGES:
        try:
            yield f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            yield f"{name} is missing"


def _machine() -> Iterator[str]:
    yield f"{platform.platform()}, {platform.machine()}, {os.cpu_count()} logical cores"
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        yield f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') >> 20} MB of memory"
    cpu = Path("/proc/cpuinfo")
    if cpu.exists():
        lines = dict(line.split(":", 1) for line in cpu.read_text("utf-8", "replace").splitlines() if ":" in line)
        named = {name.strip(): value.strip() for name, value in lines.items()}
        flags = [each for each in named.get("flags", "").split() if each.startswith(("avx", "amx", "fma", "f16c"))]
        yield f"{named.get('model name', 'a processor without a name')}: {' '.join(flags)}"
    if shutil.which("nvidia-smi"):
        yield from _run("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
    yield from (f"{name}={os.environ[name]}" for name in _ENVIRONMENT if name in os.environ)


def _settings(checked: Checked, config: Path) -> Iterator[str]:
    yield f"{_at_home(config)}" + ("" if config.exists() else " (not there: defaults)")
    for each in fields(Settings):
        if (value := getattr(checked.settings, each.name)) != each.default:
            yield f"{each.name} = {_at_home(value)}"
    yield from (f"problem: {_at_home(problem)}" for problem in checked.problems)


def _files(config: Path, state: Path) -> Iterator[str]:
    for path in (config.parent, state):
        yield f"{_at_home(path)}" + ("" if path.exists() else " (not there)")
        for each in sorted(path.iterdir()) if path.exists() else ():
            yield f"  {each.name}, {each.stat().st_size} bytes, mode {each.stat().st_mode & 0o777:o}"


def _engine_says(*command: str) -> list[str]:
    """Asks the engine's own program: this one does not know what runs."""
    return _run(sys.executable, "-P", "-m", "engine", *command)


def _run(*command: str) -> list[str]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return [f"no answer: {error}"]
    return [_at_home(line.rstrip()) for line in (done.stdout + done.stderr).splitlines() if line.strip()]


def _at_home(value: object) -> str:
    """Keeps the user's name out of a page that is meant to be posted."""
    home = str(Path.home())
    return str(value).replace(home, "~") if len(home) > 1 else str(value)
