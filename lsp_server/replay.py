"""Runs a recorded session again: the client's messages at their times, to a fresh server, and what came of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lsp_server.recording import Message, read
from lsp_server.stdio import Frames

_REQUEST = "textDocument/inlineCompletion"
_PATIENCE_S = 10.0  # for the last answers


@dataclass(slots=True)
class _Replay:
    """One run: who waits for what."""

    recorded: dict[Any, Any]  # replies of the server's, by id
    client_replies: dict[str, deque[dict[str, Any]]]  # to the server's own requests, by method
    asked: dict[Any, float] = field(default_factory=dict)
    took_ms: list[float] = field(default_factory=list)
    n_shown: int = 0
    n_same: int = 0
    n_compared: int = 0
    answer: asyncio.Event = field(default_factory=asyncio.Event)

    async def all_answered(self) -> None:
        """Waits for the answers that are due, within patience."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                while self.asked:
                    self.answer.clear()
                    await self.answer.wait()


async def replay(path: Path, serve_args: Sequence[str], speed: float) -> str:
    """Gives a summary. Raises: ValueError where the file is no recording."""
    messages = list(read(path))
    run = _Replay(*_replies(messages))
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "lsp_server", "serve", *serve_args),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    reading = asyncio.create_task(_read(server, run))
    n_sent = await _send_all(server, messages, run, speed)
    await run.all_answered()
    if server.returncode is None:
        server.kill()
    await server.wait()
    await reading
    return _summary(run, n_sent)


def _replies(messages: Sequence[Message]) -> tuple[dict[Any, Any], dict[str, deque[dict[str, Any]]]]:
    """Gives the server's replies by id, and the client's by the method of the server's request."""
    sent = [each.body for each in messages if each.is_sent]
    own_requests = {body["id"]: body["method"] for body in sent if {"id", "method"} <= body.keys()}
    of_client: dict[str, deque[dict[str, Any]]] = defaultdict(deque)
    for each in messages:
        if not each.is_sent and "method" not in each.body and each.body.get("id") in own_requests:
            of_client[own_requests[each.body["id"]]].append(each.body)
    return {body.get("id"): body.get("result") for body in sent if "method" not in body}, of_client


async def _send_all(server: asyncio.subprocess.Process, messages: Sequence[Message], run: _Replay, speed: float) -> int:
    loop = asyncio.get_running_loop()
    start_s, n_sent = loop.time(), 0
    for each in messages:
        if each.is_sent or "method" not in each.body:
            continue
        if speed:
            await asyncio.sleep(max(0.0, start_s + each.at_s / speed - loop.time()))
        message = each.body
        if message["method"] == "initialize" and isinstance(message.get("params"), dict):
            message = {**message, "params": {**message["params"], "processId": None}}
        if message["method"] == "shutdown":
            await run.all_answered()
        if message["method"] == _REQUEST:
            run.asked[message.get("id")] = loop.time()
        _send(server, message)
        n_sent += 1
    return n_sent


async def _read(server: asyncio.subprocess.Process, run: _Replay) -> None:
    assert server.stdout
    frames = Frames()
    while data := await server.stdout.read(1 << 16):
        for body in frames.feed(data):
            message = json.loads(body)
            if "method" in message and "id" in message:
                replies = run.client_replies.get(message["method"])
                reply = replies.popleft() if replies else {"result": None}
                _send(server, {**reply, "jsonrpc": "2.0", "id": message["id"]})
            elif message.get("id") in run.asked:
                _note(run, message)


def _note(run: _Replay, message: dict[str, Any]) -> None:
    asked_s = run.asked.pop(message["id"])
    run.answer.set()
    run.took_ms.append((asyncio.get_running_loop().time() - asked_s) * 1000)
    shown = _texts(message.get("result"))
    run.n_shown += bool(shown)
    if message["id"] in run.recorded:
        run.n_compared += 1
        run.n_same += shown == _texts(run.recorded[message["id"]])


def _texts(result: Any) -> list[str]:
    return [each["insertText"] for each in result["items"]] if isinstance(result, dict) else []


def _send(server: asyncio.subprocess.Process, message: dict[str, Any]) -> None:
    assert server.stdin
    body = json.dumps(message).encode()
    server.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))


def _summary(run: _Replay, n_sent: int) -> str:
    times = sorted(run.took_ms)
    lines = [f"messages sent         {n_sent}", f"suggestions asked     {len(times) + len(run.asked)}"]
    lines += [f"never answered        {len(run.asked)}", f"with a suggestion     {run.n_shown}"]
    lines += [f"same as recorded      {run.n_same} of {run.n_compared}"]
    if times:
        lines += [f"answer, median        {times[len(times) // 2]:.1f} ms"]
        lines += [f"answer, 99th percent  {times[min(len(times) - 1, int(0.99 * len(times)))]:.1f} ms"]
    return "\n".join(lines)
