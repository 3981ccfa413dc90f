"""One live connection to a resident engine: messages out, replies sorted to whoever waits for them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.api import Counters, EngineClosed, Status
from engine.rendezvous import package_version
from engine.wire import (
    Answer,
    AskStatus,
    Cancel,
    Channel,
    Failure,
    Farewell,
    Hello,
    TellStatus,
    ToEngine,
    ToServer,
    WireError,
)

STATUS_TIMEOUT_S = 5.0  # its event loop may be held up for a second or two while it imports torch

Replies = asyncio.Queue[ToServer | None]  # None: the connection is lost, nothing more will come


class Link:
    """A greeted connection. `on_lost` is called once, with the reason, if the engine goes away by itself."""

    def __init__(self, channel: Channel[ToServer]) -> None:
        self._channel = channel
        self._waiting: dict[int, Replies] = {}
        self._stopped: dict[int, Callable[[Counters], None]] = {}  # completions whose reader has gone, but for their counters
        self._ids = itertools.count(1)
        self.is_alive = True
        self.reason = "the connection to the engine was lost"  # unless the engine says better
        self.on_lost: Callable[[str], None] = lambda reason: None
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, path: Path) -> Link:
        """Connects to the socket and exchanges greetings.

        Raises: OSError where nobody listens, or the engine dies just now; EngineClosed where another version or another
        user listens.
        """
        channel: Channel[ToServer] = Channel(*await asyncio.open_unix_connection(path), ToServer)
        if not channel.is_same_user:
            channel.abort()
            raise EngineClosed(f"{path}: another user listens there")
        return await cls.greet(channel, str(path))

    @classmethod
    async def greet(cls, channel: Channel[ToServer], place: str) -> Link:
        """Exchanges greetings with the engine at a place, which is named where they fail.

        Raises: OSError where the engine dies just now; EngineClosed where it is of another version.
        """
        try:
            channel.send(Hello(package_version()))
            hello = await channel.receive()
            if hello is None:
                raise ConnectionResetError(f"{place}: closed without a greeting")
            if not isinstance(hello, Hello) or hello.version != package_version():
                raise WireError(f"its greeting was {hello!r}")
        except WireError as error:
            channel.abort()
            message = f"the engine at {place} is not of version {package_version()}; `midfill engine stop` ends it: {error}"
            raise EngineClosed(message) from error
        except BaseException:
            channel.abort()
            raise
        return cls(channel)

    async def status(self) -> Status:
        """What the engine says of itself.

        Raises: EngineClosed where the connection is lost before it has, or the process hangs.
        """
        with self.expect() as (message_id, replies):
            self.send(AskStatus(message_id))
            try:
                reply = await asyncio.wait_for(replies.get(), STATUS_TIMEOUT_S)
            except TimeoutError:
                message = f"the engine did not answer within {STATUS_TIMEOUT_S:.0f} s; `midfill engine stop` ends it"
                raise EngineClosed(message) from None
        if not isinstance(reply, TellStatus):
            raise EngineClosed(self.reason)
        return reply.status

    def send(self, message: ToEngine) -> None:
        """Sends the message; on a lost connection it goes nowhere, and one to an engine that no longer reads is given up."""
        if self.is_alive:
            try:
                self._channel.send(message)
            except WireError as error:
                self.reason = str(error)
                self._channel.abort()

    def stop(self, message_id: int, on_stopped: Callable[[Counters], None] | None) -> None:
        """Ends what is expected of a completion, all but its counters, which `on_stopped` is told."""
        replies = self._waiting[message_id]
        if on_stopped is not None:
            self._stopped[message_id] = on_stopped
            while not replies.empty():
                self._tell_stopped(replies.get_nowait())
        self.send(Cancel(message_id))

    def _tell_stopped(self, reply: ToServer | None) -> None:
        if isinstance(reply, Failure):
            self._stopped.pop(reply.id, None)
        elif isinstance(reply, Answer) and reply.chunk.counters and (told := self._stopped.pop(reply.id, None)):
            told(reply.chunk.counters)

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
        self.on_lost = lambda reason: None
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)

    async def _read(self) -> None:
        try:
            while (message := await self._channel.receive()) is not None:
                if isinstance(message, Hello):
                    raise WireError("a second greeting came")
                if isinstance(message, Farewell):
                    self.reason = message.reason
                elif message.id in self._waiting:
                    self._waiting[message.id].put_nowait(message)
                else:  # its reader has gone, and these are the last chunks on their way
                    self._tell_stopped(message)
        except WireError as error:
            self.reason = f"the connection to the engine is cut: {error}"
        finally:
            self.is_alive = False
            for replies in self._waiting.values():
                replies.put_nowait(None)
            self.on_lost(self.reason)
            await self._channel.aclose()
