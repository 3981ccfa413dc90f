"""What travels between a language server and the resident engine: length-prefixed MessagePack of plain data.

A frame is four bytes of length (big-endian) and one message. Messages are closed unions of typed structs, checked on
arrival; nothing on the wire can name a class or run code.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from typing import Generic, TypeVar

import msgspec

from engine.api import Chunk, ContextTooLong, EngineClosed, EngineError, OutOfMemory, Request, Status

MAX_FRAME_BYTES = 8 << 20  # a window of text is far smaller; more is an attack or a bug
FLUSH_S = 1.0  # for the other side to take what is still unsent when a connection is closed
PEER_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid
LENGTH = struct.Struct(">I")
ERRORS = {error.__name__: error for error in (EngineError, EngineClosed, OutOfMemory, ContextTooLong)}


class Hello(msgspec.Struct, tag="hello", frozen=True):
    """First message of either side: its package version, which must be the other's."""

    version: str


class Complete(msgspec.Struct, tag="complete", frozen=True):
    """Asks for a completion; its answers carry the same id."""

    id: int
    request: Request


class Cancel(msgspec.Struct, tag="cancel", frozen=True):
    """The completion's reader is gone."""

    id: int


class Prefetch(msgspec.Struct, tag="prefetch", frozen=True):
    """Asks for background work; has no answer."""

    request: Request


class ForgetDocument(msgspec.Struct, tag="forget", frozen=True):
    """Drops a document's caches; has no answer."""

    document: str


class AskStatus(msgspec.Struct, tag="ask_status", frozen=True):
    """Asks what the engine is and does."""

    id: int


class Answer(msgspec.Struct, tag="answer", frozen=True):
    """One chunk of a completion."""

    id: int
    chunk: Chunk


class Failure(msgspec.Struct, tag="failure", frozen=True):
    """A completion that failed: the name of its `EngineError` and its message."""

    id: int
    kind: str
    message: str


class TellStatus(msgspec.Struct, tag="status", frozen=True):
    """The engine's status."""

    id: int
    status: Status


class Farewell(msgspec.Struct, tag="farewell", frozen=True):
    """The engine's last message: why it ends."""

    reason: str


ToEngine = Hello | Complete | Cancel | Prefetch | ForgetDocument | AskStatus
ToServer = Hello | Answer | Failure | TellStatus | Farewell
Received = TypeVar("Received")


class WireError(Exception):
    """The other side sent what is no message: the connection cannot go on."""


class Channel(Generic[Received]):
    """One side of a connection: sends any message, receives those of the union it is made for."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, received: object) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder: msgspec.msgpack.Decoder[Received] = msgspec.msgpack.Decoder(received)

    def send(self, message: ToEngine | ToServer) -> None:
        """Queues the message; on a closed connection it is lost.

        Raises: EngineError where it is over the limit; WireError where the other side does not read what it was sent.
        """
        body = msgspec.msgpack.encode(message)
        if len(body) > MAX_FRAME_BYTES:
            raise EngineError(f"a message of {len(body)} bytes, at most {MAX_FRAME_BYTES} are allowed: ask with less text")
        n_unread = self._writer.transport.get_write_buffer_size()
        if n_unread > MAX_FRAME_BYTES:
            raise WireError(f"the other side has not read {n_unread} bytes that were sent to it")
        self._writer.write(LENGTH.pack(len(body)) + body)

    async def drain(self) -> None:
        """Waits while the other side reads slowly."""
        await self._writer.drain()

    async def receive(self) -> Received | None:
        """The next message, or None where the other side has closed between frames.

        Raises: WireError where a frame is cut short, over the limit, or holds no message.
        """
        try:
            header = await self._reader.readexactly(LENGTH.size)
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise WireError(f"the connection ended after {len(error.partial)} bytes of a frame's length") from error
            return None
        except ConnectionError:
            return None
        (n_bytes,) = LENGTH.unpack(header)
        if n_bytes > MAX_FRAME_BYTES:
            raise WireError(f"a frame of {n_bytes} bytes came, at most {MAX_FRAME_BYTES} are allowed")
        try:
            return self._decoder.decode(await self._reader.readexactly(n_bytes))
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise WireError(f"the connection ended inside a frame of {n_bytes} bytes") from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise WireError(f"a frame holds no message: {error}") from error

    @property
    def is_same_user(self) -> bool:
        """Whether the peer runs as our user. Where the system cannot tell, the socket's mode alone protects it."""
        option = getattr(socket, "SO_PEERCRED", None)
        if option is None:
            return True
        peer: socket.socket = self._writer.get_extra_info("socket")
        _, uid, _ = PEER_CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, option, PEER_CREDENTIALS.size))
        return bool(uid == os.getuid())

    async def aclose(self) -> None:
        """Closes the connection; what the other side does not read in time is lost."""
        self._writer.close()
        try:
            async with asyncio.timeout(FLUSH_S):
                await self._writer.wait_closed()
        except (ConnectionError, TimeoutError):
            pass  # the other side was faster, or reads no more
        finally:
            self.abort()

    def abort(self) -> None:
        """Cuts the connection: nothing more is sent or received."""
        self._writer.transport.abort()
