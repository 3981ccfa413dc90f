"""The engine as a child process of one language server, over frames on its stdin and stdout: where no Unix sockets are.

It is the resident engine's wire and connection without the socket; nobody shares it, and it ends with its server.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
import time
from asyncio.subprocess import PIPE, Process

import msgspec

from engine.api import Engine, EngineClosed, EngineOptions, State
from engine.link import Link
from engine.process import WATCH_S, Connection
from engine.wire import Channel, Farewell, ToEngine, ToServer, WireError

log = logging.getLogger(__name__)

START_TIMEOUT_S = 20.0  # until it greets; loading the model comes after that
PATIENCE_S = 5.0  # with a child that should end
_READ_BYTES = 1 << 16


async def start_child(options: EngineOptions) -> Link:
    """Starts an engine of our own; what it logs goes where our stderr goes.

    Raises: EngineClosed.
    """
    command = (sys.executable, "-I", "-X", "faulthandler", "-m", "engine", "child", msgspec.json.encode(options).decode())
    try:
        process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
        async with asyncio.timeout(START_TIMEOUT_S):
            return await Link.greet(_ChildChannel(process), f"process {process.pid}")
    except TimeoutError:
        raise EngineClosed(f"the engine did not answer within {START_TIMEOUT_S:.0f} s") from None
    except OSError as error:
        raise EngineClosed(f"the engine cannot be started: {error}") from error


class _ChildChannel(Channel[ToServer]):
    """The parent's side. A child that is let go of ends by itself; one that is cut off, or does not end, is killed."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        super().__init__(process.stdout, process.stdin, ToServer)
        self._process = process

    async def aclose(self) -> None:
        self._writer.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                await self._process.wait()
        self.abort()
        await self._process.wait()

    def abort(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()


async def serve_child(engine: Engine) -> None:
    """Serves an engine on stdin and stdout until stdin is closed, or the engine is down."""
    reader = asyncio.StreamReader()
    channel: Channel[ToEngine] = Channel(reader, _take_stdout(reader), ToEngine)
    _pump_stdin(reader)
    connection = asyncio.create_task(Connection("0", engine, channel).run())
    try:
        while not (await asyncio.wait([connection], timeout=WATCH_S))[0]:
            status = await engine.status()
            if status.state is State.ENGINE_DOWN:
                channel.send(Farewell(status.detail))
                connection.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await connection
    except WireError as error:
        log.warning("the connection is cut: %s", error)
    finally:
        await engine.aclose()


def _pump_stdin(reader: asyncio.StreamReader) -> None:
    """Feeds the reader from a thread, for pipes can't be polled on Windows.

    A child whose parent is gone must end, whatever holds it up: the thread sees to that.
    """
    loop = asyncio.get_running_loop()

    def pump() -> None:
        data = b"-"
        with contextlib.suppress(RuntimeError):  # the loop is closed: the child is on its way out
            while data:
                try:
                    data = os.read(0, _READ_BYTES)
                except OSError:
                    data = b""
                loop.call_soon_threadsafe(reader.feed_data if data else lambda _: reader.feed_eof(), data)
        time.sleep(PATIENCE_S)
        os._exit(1)

    threading.Thread(target=pump, name="stdin", daemon=True).start()


def _take_stdout(reader: asyncio.StreamReader) -> asyncio.StreamWriter:
    """Takes stdout for frames alone: what anything else prints there goes to stderr from now on."""
    frames = os.dup(1)
    os.dup2(2, 1)
    protocol = asyncio.StreamReaderProtocol(reader)
    transport = _PipeTransport(frames, protocol)
    protocol.connection_made(transport)
    return asyncio.StreamWriter(transport, protocol, None, asyncio.get_running_loop())


class _PipeTransport(asyncio.Transport):
    """Writes at once, and waits where the parent does not read: it is the only one that this child works for."""

    def __init__(self, fd: int, protocol: asyncio.StreamReaderProtocol) -> None:
        super().__init__()
        self._fd: int | None = fd
        self._protocol = protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Writes all of it; a parent that is gone is told by stdin, which ends."""
        rest = memoryview(data)
        while rest and self._fd is not None:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except OSError:
                self.close()

    def get_write_buffer_size(self) -> int:
        """Nothing is ever buffered."""
        return 0

    def is_closing(self) -> bool:
        """Whether `close` was called."""
        return self._fd is None

    def close(self) -> None:
        """Closes the pipe."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
            self._protocol.connection_lost(None)

    def abort(self) -> None:
        """Closes the pipe."""
        self.close()
