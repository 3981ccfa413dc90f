"""The resident engine's process: one socket, every editor window's connection, one engine behind them all."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import signal
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

from engine.api import Chunk, Counters, Engine, EngineError, Request, State
from engine.rendezvous import package_version
from engine.wire import (
    Answer,
    AskStatus,
    Cancel,
    Channel,
    Complete,
    Failure,
    Farewell,
    ForgetDocument,
    Hello,
    Prefetch,
    TellStatus,
    ToEngine,
    WireError,
)

log = logging.getLogger(__name__)

WATCH_S = 0.5  # between looks at the socket's file and at the engine
GREETING_S = 5.0  # for a client to say who it is
MAX_COMPLETIONS = 256  # of one connection at once


class EngineProcess:
    """Serves an engine on a Unix socket until told to stop, or until nobody has been there for a while.

    It ends with its engine, so that a client may start another, and it never stays behind a socket that is not its own.
    """

    def __init__(self, engine: Engine, idle_exit_s: float) -> None:
        self._engine = engine
        self._idle_exit_s = idle_exit_s
        self._stop = asyncio.Event()
        self._reason = "it was stopped"
        self._connections: dict[asyncio.Task[None], Channel[ToEngine]] = {}
        self._names = itertools.count()
        self._idle_timer: asyncio.TimerHandle | None = None
        self._born: tuple[int, int] | None = None  # the socket's file, to be told from another engine's

    async def serve(self, path: Path) -> None:
        """Listens on `path` (the caller holds its lock, so a socket found there is a dead engine's)."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        path.unlink(missing_ok=True)
        server = await self._listen(path)
        self._watch_idleness()
        try:
            while not self._stop.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(WATCH_S):
                        await self._stop.wait()
                await self._watch_engine()
                if not self._stop.is_set() and _identity(path) is None:
                    server.close()
                    try:
                        server = await self._listen(path)
                    except OSError as error:  # its directory is gone, too
                        self.stop(f"its socket's file was removed and cannot be made again: {error}")
                elif _identity(path) not in (None, self._born):
                    self.stop("another engine has taken its place")
        finally:
            if _identity(path) == self._born:
                path.unlink(missing_ok=True)
            server.close()
            await self._part()
            await self._engine.aclose()
            log.info("stopped: %s", self._reason)

    def stop(self, reason: str = "it was stopped") -> None:
        """Ends `serve`, for every client; they are told the reason."""
        self._reason = reason
        self._stop.set()

    async def _listen(self, path: Path) -> asyncio.Server:
        old_mask = os.umask(0o177)  # the socket is born 0600: a chmod afterwards would leave a gap
        try:
            server = await asyncio.start_unix_server(self._accept, path)
        finally:
            os.umask(old_mask)
        self._born = _identity(path)
        log.info("listening on %s", path)
        return server

    async def _part(self) -> None:
        """Tells every client why, and ends its connection."""
        for task, channel in self._connections.items():
            with contextlib.suppress(WireError):
                channel.send(Farewell(self._reason))
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _watch_engine(self) -> None:
        status = await self._engine.status()
        if status.state is State.ENGINE_DOWN:
            self.stop(status.detail)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        channel: Channel[ToEngine] = Channel(reader, writer, ToEngine)
        if self._stop.is_set():  # too late: closed without a greeting, the client starts another engine
            writer.close()
            return
        if not channel.is_same_user:
            log.warning("refused a connection of another user")
            writer.close()
            return
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = channel
        self._watch_idleness()
        try:
            await Connection(f"{next(self._names)}", self._engine, channel).run()
        except WireError as error:
            log.warning("a connection was closed: %s", error)
        except asyncio.CancelledError:
            pass  # by _part; asyncio's streams take a cancelled task for an error
        finally:
            del self._connections[task]
            self._watch_idleness()

    def _watch_idleness(self) -> None:
        """Starts the countdown to the end when the last connection has gone, and stops it when one comes."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        if not self._connections:
            loop = asyncio.get_running_loop()
            self._idle_timer = loop.call_later(self._idle_exit_s, self.stop, "nobody was there")


class Connection:
    """One language server's connection. Its documents are its own: another window's never share a cache."""

    def __init__(self, name: str, engine: Engine, channel: Channel[ToEngine]) -> None:
        self._name = name
        self._engine = engine
        self._channel = channel
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
                with contextlib.suppress(EngineError):
                    await self._engine.forget(document)
            await self._channel.aclose()

    async def _greet(self) -> bool:
        self._channel.send(Hello(package_version()))
        try:
            async with asyncio.timeout(GREETING_S):
                hello = await self._channel.receive()
        except TimeoutError as error:
            raise WireError(f"no greeting came within {GREETING_S:.0f} s") from error
        if isinstance(hello, Hello) and hello.version == package_version():
            return True
        log.warning("refused a client: it said %r, version %s was expected", hello, package_version())
        return False

    async def _handle(self, message: ToEngine) -> None:
        match message:
            case Complete():
                if message.id in self._completions or len(self._completions) >= MAX_COMPLETIONS:
                    raise WireError(f"id {message.id} is in use, or {MAX_COMPLETIONS} completions run already")
                task = asyncio.create_task(self._complete(message))
                self._completions[message.id] = task
                task.add_done_callback(lambda _: self._completions.pop(message.id, None))
                await asyncio.sleep(0)  # it begins: one that is cancelled before has no counters to tell
            case Cancel():
                if message.id in self._completions:
                    self._completions[message.id].cancel()
            case Prefetch():
                await self._engine.prefetch(self._own(message.request))
            case ForgetDocument():
                key = self._key(message.document)
                self._documents.discard(key)
                await self._engine.forget(key)
            case AskStatus():
                self._channel.send(TellStatus(message.id, await self._engine.status()))
            case Hello():
                raise WireError("a second greeting came")

    async def _complete(self, message: Complete) -> None:
        def tell(counters: Counters) -> None:
            with contextlib.suppress(WireError):
                self._channel.send(Answer(message.id, Chunk(text="", counters=counters)))

        try:
            try:
                async with aclosing(self._engine.complete(self._own(message.request), tell)) as chunks:
                    async for chunk in chunks:
                        self._channel.send(Answer(message.id, chunk))
                        await self._channel.drain()
            except EngineError as error:
                self._channel.send(Failure(message.id, type(error).__name__, str(error)))
        except WireError as error:
            log.warning("a connection is cut: %s", error)
            self._channel.abort()
        except ConnectionError:
            pass  # the client is gone: run() sees it too

    def _own(self, request: Request) -> Request:
        key = self._key(request.document)
        self._documents.add(key)
        return replace(request, document=key, window=self._name)

    def _key(self, document: str) -> str:
        return f"{self._name}/{document}"


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a socket's file from another one of the same name; None where there is none."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns
