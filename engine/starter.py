"""Starting the resident engine's process, and waiting until its socket answers."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import time

import msgspec

from engine.api import EngineClosed, EngineOptions
from engine.link import Link
from engine.rendezvous import Rendezvous, rendezvous, take_lock

log = logging.getLogger(__name__)

START_TIMEOUT_S = 20.0  # until the socket answers; loading the model comes after that
RETRY_S = 0.02


async def connect_or_start(options: EngineOptions) -> Link:
    """A link to the engine that the options ask for, which is started where none runs.

    While an engine's lock is held but its socket does not answer, that engine is starting or dying: both pass.
    Raises: CheckpointError, EngineError.
    """
    place = await asyncio.to_thread(rendezvous, options)
    process: subprocess.Popen[bytes] | None = None
    give_up_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < give_up_s:
        try:
            return await Link.open(place.socket)
        except OSError:
            pass  # nobody listens yet, or any more
        code = process.poll() if process is not None else 0
        if code not in (None, 0):  # 0: another server's engine won the race
            raise EngineClosed(f"the engine ended with exit code {code} at its start; its log is {place.log}")
        if code == 0 and (lock := take_lock(place.lock)) is not None:
            lock.close()
            log.info("no engine at %s: starting one", place.socket)
            process = start(options, place)
        await asyncio.sleep(RETRY_S)
    raise EngineClosed(f"the engine did not answer within {START_TIMEOUT_S:.0f} s; its log is {place.log}")


def start(options: EngineOptions, place: Rendezvous) -> subprocess.Popen[bytes]:
    """Starts the engine detached: own session, no stdio, neutral directory, so that it outlives the editor."""
    command = [sys.executable, "-I", "-m", "engine", "serve", msgspec.json.encode(options).decode()]
    with place.log.open("ab") as output:  # what is written before logging is set up, and a crash's last words
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/", start_new_session=True, close_fds=True
        )
