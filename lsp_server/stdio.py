"""The wire: framed messages from stdin, replies to stdout, and noticing that the other end is gone.

Source: LSP 3.18 "Base Protocol"; header names are case-insensitive, as in HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import threading
from collections.abc import AsyncGenerator, Callable
from typing import BinaryIO

_log = logging.getLogger(__name__)

_HEADER_END = re.compile(rb"\r?\n\r?\n")
# Not held to the start of a line: after a frame of the wrong length or stray bytes, what is left of them stands before it.
_CONTENT_LENGTH = re.compile(rb"content-length:[ \t]*(\d{1,10})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_MAX_HEADER_BYTES = 1 << 16
_KEPT_BYTES = 1 << 10  # of what is skipped, for the next header may have begun in it
_MAX_BODY_BYTES = 1 << 30
_READ_BYTES = 1 << 16


class Frames:
    """Cuts a stream of bytes into message bodies."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._body_bytes: int | None = None  # of the message whose header was read

    def feed(self, data: bytes) -> list[bytes]:
        """Takes the next bytes and gives the bodies that they complete; a header without a usable length is skipped."""
        self._buffer += data
        bodies = []
        while self._body_bytes is not None or self._take_header():
            if self._body_bytes is None:
                continue
            if len(self._buffer) < self._body_bytes:
                break
            bodies.append(bytes(self._buffer[: self._body_bytes]))
            del self._buffer[: self._body_bytes]
            self._body_bytes = None
        return bodies

    def _take_header(self) -> bool:
        """Takes one header block off the buffer; False where there is no whole one."""
        end = _HEADER_END.search(self._buffer)
        if end is None:
            if len(self._buffer) > _MAX_HEADER_BYTES:
                _log.error("%d bytes without a message header are skipped", len(self._buffer))
                del self._buffer[:-_KEPT_BYTES]
            return False
        header = bytes(self._buffer[: end.end()])
        del self._buffer[: end.end()]
        length = _CONTENT_LENGTH.search(header)
        if length is None or int(length[1]) > _MAX_BODY_BYTES:
            _log.error("a message header without a usable Content-Length is skipped: %d bytes", len(header))
        else:
            self._body_bytes = int(length[1])
        return True


async def read_messages(fd: int) -> AsyncGenerator[bytes]:
    """Gives each message's body until the client closes its end.

    The loop reads where it can watch the descriptor: to wake a thread for it costs each key 0.2 ms. On
    Windows pipes can't be watched, nor files anywhere: there a thread reads, a daemon, which is not waited for at exit, and
    the bare descriptor, because a thread that is inside sys.stdin aborts the interpreter when that shuts down.
    """
    loop = asyncio.get_running_loop()
    inbox: asyncio.Queue[bytes] = asyncio.Queue()

    def read() -> bytes:
        try:
            return os.read(fd, _READ_BYTES)
        except OSError:
            return b""

    def pump() -> None:
        data = b"-"
        with contextlib.suppress(RuntimeError):  # the loop is closed: the server is on its way out
            while data:
                data = read()
                loop.call_soon_threadsafe(inbox.put_nowait, data)

    try:
        loop.add_reader(fd, lambda: inbox.put_nowait(read()))
    except (NotImplementedError, PermissionError):
        threading.Thread(target=pump, name="stdin", daemon=True).start()
    frames = Frames()
    try:
        while data := await inbox.get():
            for body in frames.feed(data):
                yield body
    finally:
        with contextlib.suppress(NotImplementedError):
            loop.remove_reader(fd)


class Writer:
    """Writes to the client, and says once when it no longer listens."""

    def __init__(
        self, stream: BinaryIO, on_broken: Callable[[], None], on_write: Callable[[bytes], None] | None = None
    ) -> None:
        self._stream = stream
        self._on_broken = on_broken
        self._on_write = on_write

    def write(self, data: bytes) -> None:
        if self._on_write:
            self._on_write(data)
        try:
            self._stream.write(data)
            self._stream.flush()
        except (OSError, ValueError):  # ValueError: closed
            self._on_broken()

    def close(self) -> None:
        """The stream is the process's own; it closes with it."""


async def wait_for_death(pid: int, poll_s: float = 2.0) -> None:
    """Returns once a process that could be seen is gone.

    One that can't be seen is never gone: a server in a container does not share the client's process numbers. On
    Windows there is no harmless way to ask, and the closing pipe tells.
    """
    if os.name != "posix" or not _is_alive(pid):
        await asyncio.get_running_loop().create_future()
    while _is_alive(pid):  # noqa: ASYNC110 (another process's end is no event)
        await asyncio.sleep(poll_s)


def _is_alive(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True
