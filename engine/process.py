"""The resident engine's process: one socket, every editor window's connection, one engine behind them all."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import socket
import struct
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

from engine.api import Engine, EngineError, Request
from engine.rendezvous import package_version
from engine.wire import (
    Answer,
    AskStatus,
    Cancel,
    Channel,
    Complete,
    Failure,
    ForgetDocument,
    Hello,
    Prefetch,
    Shutdown,
    TellStatus,
    ToEngine,
    WireError,
)

log = logging.getLogger(__name__)

PEER_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


class EngineProcess:
    """Serves an engine on a Unix socket until told to stop, or until nobody has been there for a while."""

    def __init__(self, engine: Engine, idle_exit_s: float) -> None:
        self._engine = engine
        self._idle_exit_s = idle_exit_s
        self._stop = asyncio.Event()
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._names = itertools.count()
        self._idle_timer: asyncio.TimerHandle | None = None

    async def serve(self, path: Path) -> None:
        """Listens on `path` (the caller holds its lock, so a socket found there is a dead engine's)."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        path.unlink(missing_ok=True)
        old_mask = os.umask(0o177)  # the socket is born 0600: a chmod afterwards would leave a gap
        try:
            server = await asyncio.start_unix_server(self._accept, path)
        finally:
            os.umask(old_mask)
        log.info("listening on %s", path)
        self._watch_idleness()
        try:
            await self._stop.wait()
        finally:
            path.unlink(missing_ok=True)
            server.close()
            for writer in self._connections.values():
                writer.close()
            await asyncio.gather(*self._connections, return_exceptions=True)
            await self._engine.aclose()
            log.info("stopped")

    def stop(self) -> None:
        """Ends `serve`, for every client."""
        self._stop.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._stop.is_set():  # too late: closed without a greeting, the client starts another engine
            writer.close()
            return
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = writer
        self._watch_idleness()
        try:
            if _is_same_user(writer):
                await Connection(f"{next(self._names)}", self._engine, Channel(reader, writer, ToEngine), self._stop).run()
            else:
                log.warning("refused a connection of another user")
        except WireError as error:
            log.warning("a connection was closed: %s", error)
        finally:
            writer.close()
            del self._connections[task]
            self._watch_idleness()

    def _watch_idleness(self) -> None:
        """Starts the countdown to the end when the last connection has gone, and stops it when one comes."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        if not self._connections:
            self._idle_timer = asyncio.get_running_loop().call_later(self._idle_exit_s, self._stop.set)


class Connection:
    """One language server's connection. Its documents are its own: another window's never share a cache."""

    def __init__(self, name: str, engine: Engine, channel: Channel[ToEngine], stop: asyncio.Event) -> None:
        self._name = name
        self._engine = engine
        self._channel = channel
        self._stop = stop
        self._completions: dict[int, asyncio.Task[None]] = {}
        self._documents: set[str] = set()

    async def run(self) -> None:
        """Serves the connection until the other side closes it; then its work ends and its caches go."""
        try:
            if not await self._greet():
                return
            while (message := await self._channel.receive()) is not None:
                await self._handle(message)
        finally:
            for task in self._completions.values():
                task.cancel()
            await asyncio.gather(*self._completions.values(), return_exceptions=True)
            for document in self._documents:
                await self._engine.forget(document)
            with contextlib.suppress(ConnectionError):
                await self._channel.aclose()

    async def _greet(self) -> bool:
        self._channel.send(Hello(package_version()))
        hello = await self._channel.receive()
        if isinstance(hello, Hello) and hello.version == package_version():
            return True
        log.warning("refused a client: it said %r, version %s was expected", hello, package_version())
        return False

    async def _handle(self, message: ToEngine) -> None:
        match message:
            case Complete():
                task = asyncio.create_task(self._complete(message))
                self._completions[message.id] = task
                task.add_done_callback(lambda _: self._completions.pop(message.id, None))
            case Cancel():
                if message.id in self._completions:
                    self._completions[message.id].cancel()
            case Prefetch():
                await self._engine.prefetch(self._own(message.request))
            case ForgetDocument():
                await self._engine.forget(self._key(message.document))
            case AskStatus():
                self._channel.send(TellStatus(message.id, await self._engine.status()))
            case Shutdown():
                self._stop.set()
            case Hello():
                raise WireError("a second greeting came")

    async def _complete(self, message: Complete) -> None:
        try:
            async with aclosing(self._engine.complete(self._own(message.request))) as chunks:
                async for chunk in chunks:
                    self._channel.send(Answer(message.id, chunk))
                    await self._channel.drain()
        except EngineError as error:
            self._channel.send(Failure(message.id, type(error).__name__, str(error)))
        except ConnectionError:
            pass  # the client is gone: run() sees it too

    def _own(self, request: Request) -> Request:
        key = self._key(request.document)
        self._documents.add(key)
        return replace(request, document=key, window=self._name)

    def _key(self, document: str) -> str:
        return f"{self._name}/{document}"


def _is_same_user(writer: asyncio.StreamWriter) -> bool:
    """Whether the peer runs as our user. Where the system cannot tell, the socket's mode alone protects it."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return True
    peer: socket.socket = writer.get_extra_info("socket")
    _, uid, _ = PEER_CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, option, PEER_CREDENTIALS.size))
    return bool(uid == os.getuid())
