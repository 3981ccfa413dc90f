"""A user's home for a real editor: its own folders, `midfill` on PATH, a script for the engine, and the end of all of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "e2e"
PATIENCE_S = 60.0  # of a test, before it calls something hung

T = TypeVar("T")


def screenshot(name: str, picture: str | bytes) -> None:
    """Keeps a picture that a test made: in the build folder, and in docs/ where UPDATE_SCREENSHOTS asks for it."""
    for folder in (BUILD / "screenshots", *([ROOT / "docs"] if os.environ.get("UPDATE_SCREENSHOTS") else [])):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(picture if isinstance(picture, bytes) else picture.encode())


# The lines that the tests type, and what stands behind them. A prefix that no rule matches gets no suggestion.
SCRIPT = (
    {"prefix_ends": "return ", "text": "width * height\n"},
    {"prefix_ends": "naïve = ", "text": "café + 1\n"},
    {"prefix_ends": "'🙂🙂' + ", "text": "'🦀' + tail\n"},
    {"prefix_ends": "print(", "text": "width, height)\n"},
    {"prefix_ends": "area = ", "text": "width * height\n", "others": ["height * width\n", "width ** 2\n"]},
    {"prefix_ends": "total = ", "text": "first(width) + second[height]\n"},
    {"prefix_ends": "def block():", "text": "\n    one = 1\n    two = 2\n    return one + two\n"},
)

# Plain text, where nothing needs to parse, and so regular that the smallest model goes on with it somewhere.
COUNTING = "".join(f"value_{n} = read(source, {n})\n" for n in range(1, 9))
GOES_ON = "value_9 = read(source, 9)\nvalue_10 = read(source, 10)\n"


class Home:
    """Private user directories in a folder; everything that midfill leaves behind stays in them."""

    def __init__(self, folder: Path, *rules: dict[str, object]) -> None:
        self.folder = folder
        self.project = folder / "project"
        self.project.mkdir()
        names = {"XDG_RUNTIME_DIR": "run", "XDG_STATE_HOME": "state", "XDG_CONFIG_HOME": "config", "XDG_DATA_HOME": "data"}
        for name in (*names.values(), "bin", "cache"):
            (folder / name).mkdir(mode=0o700)
        self.script = folder / "script.json"
        self.script.write_text(json.dumps(rules or SCRIPT), "utf-8")
        midfill = folder / "bin" / "midfill"
        midfill.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m lsp_server "$@"\n', "utf-8")
        midfill.chmod(0o755)
        self.env = {
            **{name: os.environ[name] for name in ("LANG", "PYTHONPATH", "OMP_WAIT_POLICY") if name in os.environ},
            **{name: str(folder / part) for name, part in names.items()},
            "HOME": str(folder),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
            "LC_ALL": "C.UTF-8",
        }
        # Nobody asks again where a busy machine was late; and how sure a model must be is not what is tested here.
        self._write_settings({"deadline_ms": int(PATIENCE_S * 1000), "gate": False})

    @property
    def scripted(self) -> dict[str, object]:
        """Settings of the user's that put the script in place of a model."""
        return {"engine": "scripted", "script": str(self.script)}

    def use_script(self) -> None:
        """Puts the script into the user's midfill.toml."""
        self._write_settings(self.scripted)

    def _write_settings(self, settings: dict[str, object]) -> None:
        path = self.folder / "config" / "midfill" / "midfill.toml"
        path.parent.mkdir(exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.writelines(f"{name} = {json.dumps(value)}\n" for name, value in settings.items())

    def write(self, name: str, text: str) -> Path:
        path = self.project / name
        path.write_bytes(text.encode())
        return path

    def midfill(self, *args: str) -> str:
        """Runs the command in this home and gives what it printed."""
        done = subprocess.run(
            [str(self.folder / "bin" / "midfill"), *args], env=self.env, capture_output=True, text=True, timeout=PATIENCE_S
        )
        return done.stdout + done.stderr

    def engine_pids(self) -> list[int]:
        """Finds the resident engines of this home, by the number that each writes into its lock."""
        found = []
        for lock in Path(self.env["XDG_RUNTIME_DIR"]).rglob("*.lock"):
            text = lock.read_text("utf-8").strip()
            if text.isdecimal() and Path("/proc", text).exists():
                found.append(int(text))
        return found

    def leave(self) -> None:
        """Ends the resident engine, if one runs."""
        if any(Path(self.env["XDG_RUNTIME_DIR"]).rglob("*.lock")):
            self.midfill("clean")


def wait_for(what: str, look: Callable[[], T], patience_s: float = PATIENCE_S) -> T:
    """Looks again and again until it sees something true, and gives that."""
    deadline = time.monotonic() + patience_s
    while not (seen := look()):
        assert time.monotonic() < deadline, f"waited {patience_s:.0f} s for {what}"
        time.sleep(0.02)
    return seen
