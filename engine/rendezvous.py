"""Where a resident engine and its clients meet: a private directory, and a socket named after what it serves.

The name is a hash of everything that makes two engines different, so that versions and models never meet, nor an engine
that still runs the code of before an upgrade. The engine holds a lock beside the socket as long as it lives; whoever holds
it may remove a socket that was left behind.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import stat
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import platformdirs

from engine.api import EngineError, EngineOptions
from engine.model_files import folder_digest, model_folder

if sys.platform != "win32":  # where there is no resident engine, but this can be imported
    import fcntl

_MAX_SOCKET_BYTES = 107 if sys.platform == "linux" else 103  # sockaddr_un's, less its NUL


@dataclass(frozen=True, slots=True)
class Rendezvous:
    """The paths of one resident engine."""

    socket: Path
    lock: Path
    log: Path


def rendezvous(options: EngineOptions) -> Rendezvous:
    """The paths for the engine that the options ask for; the directories exist and are private.

    Raises: CheckpointError where the model does not exist, EngineError where a directory is not ours alone.
    """
    code, model = folder_digest(Path(__file__).parent), folder_digest(model_folder(options.model))
    script = options.script or ""
    key = "\0".join((package_version(), code, model, options.kind, options.dtype, options.device, options.attention, script))
    name = f"engine-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    runtime = runtime_directory()
    place = Rendezvous(runtime / f"{name}.sock", runtime / f"{name}.lock", state_directory() / f"{name}.log")
    n_bytes = len(os.fsencode(place.socket))
    if n_bytes > _MAX_SOCKET_BYTES:
        raise EngineError(
            f"{place.socket}: a socket's path may have {_MAX_SOCKET_BYTES} bytes, this one has {n_bytes}; "
            "set XDG_RUNTIME_DIR to a private directory with a shorter path"
        )
    return place


def package_version() -> str:
    """The installed version; engines of another one are never talked to."""
    return importlib.metadata.version("midfill")


def runtime_directory() -> Path:
    """The user's private directory for sockets, made where it is missing.

    Raises: EngineError where it, or the user's directory above it, belongs to somebody else or is open to others; on Windows.
    """
    if sys.platform == "win32":
        raise EngineError("on Windows no engine is resident: each language server has one of its own")
    with warnings.catch_warnings(action="ignore"):  # platformdirs warns where it falls back to a directory under /tmp
        path = Path(platformdirs.user_runtime_dir("midfill"))
    for directory in (path.parent, path):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.lstat()
        mode = stat.S_IMODE(found.st_mode)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or mode & 0o077:
            raise EngineError(
                f"{directory}: must be a directory of mode 0700 that belongs to user {os.getuid()}, "
                f"has mode {mode:04o} and belongs to user {found.st_uid}; remove it, or set XDG_RUNTIME_DIR to a private one"
            )
    return path


def state_directory() -> Path:
    """The user's directory for logs, made where it is missing; where it cannot be made there is no log."""
    path = Path(platformdirs.user_state_dir("midfill"))
    with contextlib.suppress(OSError):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def take_lock(path: Path) -> IO[str] | None:
    """Takes the engine's lock, held until the file is closed or the process ends; None where another engine has it."""
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    file.truncate(0)  # a dead engine's signature must not be taken for the new holder's
    return file


def sign(lock: IO[str]) -> None:
    """Writes into the lock whose it is; a full disk may keep it blank."""
    with contextlib.suppress(OSError):
        lock.write(f"{os.getpid()}")
        lock.flush()
