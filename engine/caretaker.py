"""What a person may do to the engines that run, whatever their model and version: find, ask, end, remove what they leave."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.api import EngineError, State, Status
from engine.link import Link
from engine.model_files import PACKED_FOLDER, SHIPPED_MODEL, cache_directory
from engine.rendezvous import runtime_directory, state_directory, take_lock

PATIENCE_S = 15.0  # with an engine that was told to end, before it is killed
ANSWER_S = 5.0
RETRY_S = 0.02


@dataclass(frozen=True, slots=True)
class Resident:
    """A process that holds an engine's lock."""

    lock: Path
    pid: int

    async def status(self) -> Status:
        """What it says of itself; `engine_down` where it does not answer, or is of another version."""
        try:
            async with asyncio.timeout(ANSWER_S):
                link = await Link.open(self.lock.with_suffix(".sock"))
                status = await link.status()
                await link.aclose()
                return status
        except (EngineError, OSError) as error:
            return Status(state=State.ENGINE_DOWN, detail=str(error) or "it does not answer")

    def stop(self) -> None:
        """Has it end, by force where it does not by itself, and waits until it has."""
        for number, patience_s in ((signal.SIGTERM, PATIENCE_S), (signal.SIGKILL, PATIENCE_S)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)
            give_up_s = time.monotonic() + patience_s
            while time.monotonic() < give_up_s:
                if (lock := take_lock(self.lock)) is not None:
                    lock.close()
                    return
                time.sleep(RETRY_S)
        raise EngineError(f"process {self.pid} does not end; it holds {self.lock}")


def residents() -> list[Resident]:
    """The engines that run."""
    found = []
    for path in sorted(runtime_directory().glob("engine-*.lock")):
        lock = take_lock(path)
        if lock is not None:
            lock.close()
        elif (signature := path.read_text()).isdigit():
            found.append(Resident(path, int(signature)))
    return found


def clean() -> Iterator[Path]:
    """Ends the engines and removes what midfill has left; gives what it removed. Settings and models stay.

    Raises: EngineError where something cannot be removed.
    """
    for resident in residents():
        resident.stop()
    state = state_directory()  # on macOS the settings file is there too
    caches = cache_directory(), SHIPPED_MODEL / PACKED_FOLDER
    for path in (runtime_directory(), *sorted(state.glob("engine-*.log*")), *sorted(state.glob("stats.*")), *caches):
        try:
            if path.is_dir():
                shutil.rmtree(path)
            elif path.exists():
                path.unlink()
            else:
                continue
        except OSError as error:
            raise EngineError(f"{path}: cannot be removed ({error.strerror}); remove it by hand") from error
        yield path
    with contextlib.suppress(OSError):  # something else is in it
        state.rmdir()
