"""One live connection to a resident engine: messages out, replies sorted to whoever waits for them."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.api import EngineClosed
from engine.rendezvous import package_version
from engine.wire import Channel, Hello, ToEngine, ToServer, WireError

log = logging.getLogger(__name__)

Replies = asyncio.Queue[ToServer | None]  # None: the connection is lost, nothing more will come


class Link:
    """A greeted connection. `on_lost` is called once if the engine goes away by itself."""

    def __init__(self, channel: Channel[ToServer]) -> None:
        self._channel = channel
        self._waiting: dict[int, Replies] = {}
        self._ids = itertools.count(1)
        self.is_alive = True
        self.on_lost: Callable[[], None] = lambda: None
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, path: Path) -> Link:
        """Connects to the socket and exchanges greetings.

        Raises: OSError where nobody listens, or the engine dies just now; EngineClosed where another version listens.
        """
        channel: Channel[ToServer] = Channel(*await asyncio.open_unix_connection(path), ToServer)
        channel.send(Hello(package_version()))
        try:
            hello = await channel.receive()
        except WireError as error:
            log.warning("no greeting: %s", error)
        else:
            if hello is None:
                raise ConnectionResetError(f"{path}: closed without a greeting")
            if isinstance(hello, Hello) and hello.version == package_version():
                return cls(channel)
        await channel.aclose()
        raise EngineClosed(f"the engine at {path} is not of version {package_version()}; `midfill engine stop` ends it")

    def send(self, message: ToEngine) -> None:
        """Sends the message; on a lost connection it goes nowhere."""
        if self.is_alive:
            self._channel.send(message)

    @contextmanager
    def expect(self) -> Iterator[tuple[int, Replies]]:
        """A fresh message id, and the queue that its replies go to while the block runs."""
        message_id, replies = next(self._ids), Replies()
        self._waiting[message_id] = replies
        if not self.is_alive:
            replies.put_nowait(None)
        try:
            yield message_id, replies
        finally:
            del self._waiting[message_id]

    async def aclose(self) -> None:
        """Closes the connection; who still waits hears that it is lost."""
        self.on_lost = lambda: None
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)

    async def _read(self) -> None:
        try:
            while (message := await self._channel.receive()) is not None:
                if isinstance(message, Hello):
                    raise WireError("a second greeting came")
                if message.id in self._waiting:  # else its reader has gone, and these are the last chunks on their way
                    self._waiting[message.id].put_nowait(message)
        except WireError as error:
            log.warning("the connection to the engine is cut: %s", error)
        finally:
            self.is_alive = False
            for replies in self._waiting.values():
                replies.put_nowait(None)
            self.on_lost()
            await self._channel.aclose()
