"""A whole server in this process, on a fake clock: fed with bytes, and everything that it says kept."""

from __future__ import annotations

import asyncio
import io
import json
from collections import Counter
from typing import Any

from lsp_server.server import MidfillServer
from lsp_server.settings import Settings
from lsp_server.stdio import Frames, Writer
from lsp_server.tracing import Tracer
from tests.lsp_server.clock import FakeClockLoop

INITIALIZE = {"capabilities": {"general": {"positionEncodings": ["utf-16"]}}, "processId": None}


class Conversation:
    """Sends messages and passes time by turns."""

    def __init__(self, script: str, **settings: Any) -> None:
        self._loop = FakeClockLoop()
        self._frames, self._said = Frames(), io.BytesIO()
        self._next_id = 1000  # junk may bear small ones
        self.replies: dict[Any, list[dict[str, Any]]] = {}
        self.asked: list[Any] = []
        self.server = self._loop.run_until_complete(self._start(script, settings))
        self.request("initialize", INITIALIZE)
        self.notify("initialized", {})

    async def _start(self, script: str, settings: dict[str, Any]) -> MidfillServer:
        server = MidfillServer(Settings(engine="scripted", script=script, **settings), version="0", tracer=Tracer())
        server.protocol.set_writer(Writer(self._said, lambda: None))
        return server

    def request(self, method: str, params: Any) -> int:
        self._next_id += 1
        self.asked.append(self._next_id)
        self.send({"jsonrpc": "2.0", "id": self._next_id, "method": method, "params": params})
        return self._next_id

    def notify(self, method: str, params: Any) -> None:
        self.send({"jsonrpc": "2.0", "method": method, "params": params})

    def send(self, message: Any) -> None:
        body = json.dumps(message).encode()
        self.feed(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))

    def feed(self, data: bytes) -> None:
        """Hands over bytes as they would come off the pipe: after each message the loop has one pass."""

        async def receive() -> None:
            for body in self._frames.feed(data):
                self.server.protocol.receive(body)
                await asyncio.sleep(0)

        self._loop.run_until_complete(receive())
        self._listen()

    def wait(self, seconds: float) -> None:
        self._loop.run_until_complete(asyncio.sleep(seconds))
        self._listen()

    def text(self, uri: str) -> str | None:
        document = self.server.documents.get(uri)
        return None if document is None else str(document.text)

    def end(self) -> None:
        """Waits for what is due, and checks that every request was answered once and that nothing goes on."""
        self.wait(1000)
        self._loop.run_until_complete(self._close())
        self._listen()
        n_replies = Counter({msg_id: len(replies) for msg_id, replies in self.replies.items()})
        assert {msg_id: n_replies[msg_id] for msg_id in self.asked} == dict.fromkeys(self.asked, 1)
        self._loop.close()

    async def _close(self) -> None:
        await self.server.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}, "a task was leaked"

    def _listen(self) -> None:
        for body in Frames().feed(self._said.getvalue()):
            message = json.loads(body)
            if "method" not in message and message["id"] is not None:
                self.replies.setdefault(message["id"], []).append(message)
        self._said.seek(0)
        self._said.truncate()
