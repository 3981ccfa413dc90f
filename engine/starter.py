"""Starting the resident engine's process, and waiting until its socket answers."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from typing import IO

import msgspec

from engine.api import EngineClosed, EngineOptions
from engine.link import Link
from engine.rendezvous import Rendezvous, rendezvous, take_lock

log = logging.getLogger(__name__)

START_TIMEOUT_S = 20.0  # until the socket answers; loading the model comes after that
RETRY_S = 0.02


async def connect(options: EngineOptions) -> Link | None:
    """A link to the engine that the options ask for; None where none runs.

    Raises: CheckpointError, EngineError.
    """
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            return await Link.open((await asyncio.to_thread(rendezvous, options)).socket)
    except OSError:  # nobody listens, or in vain
        return None


async def connect_or_start(options: EngineOptions) -> Link:
    """A link to the engine that the options ask for, which is started where none runs.

    While an engine's lock is held but its socket does not answer, that engine is starting or dying: both pass.
    Raises: CheckpointError, EngineError.
    """
    try:
        place = await asyncio.to_thread(rendezvous, options)
        async with asyncio.timeout(START_TIMEOUT_S):
            return await _knock_or_start(options, place)
    except TimeoutError:
        message = (
            f"the engine did not answer within {START_TIMEOUT_S:.0f} s; its log is {place.log}; `midfill engine stop` ends it"
        )
        raise EngineClosed(message) from None
    except OSError as error:  # no room for a lock, no memory for a process
        raise EngineClosed(f"the engine cannot be started: {error}") from error


async def _knock_or_start(options: EngineOptions, place: Rendezvous) -> Link:
    process: subprocess.Popen[bytes] | None = None
    while True:
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


def start(options: EngineOptions, place: Rendezvous) -> subprocess.Popen[bytes]:
    """Starts the engine detached: own session, no stdio, neutral directory, so that it outlives the editor."""
    command = [sys.executable, "-I", "-X", "faulthandler", "-m", "engine", "serve", msgspec.json.encode(options).decode()]
    with _open_log(place) as output:  # what is written before logging is set up, and a crash's last words
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/", start_new_session=True, close_fds=True
        )


def _open_log(place: Rendezvous) -> IO[bytes]:
    try:
        return place.log.open("ab")
    except OSError as error:  # a full disk costs the log, not the engine
        log.warning("the engine has no log: %s", error)
        return open(os.devnull, "ab")
