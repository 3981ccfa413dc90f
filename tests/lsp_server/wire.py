"""A client that is nothing but frames, so that it can send what no library would."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.lsp_server.places import CURSOR, cursor_after, split

PATIENCE_S = 60.0  # of a test, before it calls the server hung
URI = "file:///project/main.py"


class Wire:
    """A server process, what it was sent, and what it said."""

    def __init__(self, *options: str, env: Mapping[str, str]) -> None:
        command = [sys.executable, "-m", "lsp_server", "serve", *options]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(env)
        )
        self.notifications: list[dict[str, Any]] = []  # and requests of the server's own
        self.log: list[str] = []
        self._next_id = 0
        self._replies: dict[Any, dict[str, Any]] = {}
        self._inbox: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._readers = [threading.Thread(target=each, daemon=True) for each in (self._read, self._read_log)]
        for reader in self._readers:
            reader.start()

    def start(self, encoding: str = "utf-16", **params: Any) -> dict[str, Any]:
        """Initialises the server and gives its result."""
        capabilities = {"general": {"positionEncodings": [encoding]}, **params.pop("capabilities", {})}
        answer = self.ask("initialize", {"processId": None, "rootUri": None, "capabilities": capabilities, **params})
        self.notify("initialized", {})
        result: dict[str, Any] = answer["result"]
        return result

    def send_raw(self, data: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def send(self, message: Any) -> None:
        body = json.dumps(message).encode()
        self.send_raw(b"Content-Length: %d\r\n\r\n" % len(body) + body)

    def notify(self, method: str, params: Any) -> None:
        self.send({"jsonrpc": "2.0", "method": method, "params": params})

    def request(self, method: str, params: Any) -> int:
        """Sends a request without waiting and gives its id."""
        self._next_id += 1
        self.send({"jsonrpc": "2.0", "id": self._next_id, "method": method, "params": params})
        return self._next_id

    def reply(self, msg_id: Any) -> dict[str, Any]:
        """Waits for the reply to a request; what comes before it is kept."""
        while msg_id not in self._replies:
            self._take()
        return self._replies.pop(msg_id)

    def ask(self, method: str, params: Any) -> dict[str, Any]:
        return self.reply(self.request(method, params))

    def notification(self, method: str) -> dict[str, Any]:
        """Waits for the next notification or request of the server's with this method."""
        while not (found := [each for each in self.notifications if each["method"] == method]):
            self._take()
        self.notifications.remove(found[0])
        return found[0]

    def open(self, text: str, *, uri: str = URI, version: int = 1, language: str = "python") -> None:
        item = {"uri": uri, "languageId": language, "version": version, "text": text}
        self.notify("textDocument/didOpen", {"textDocument": item})

    def change(self, *changes: dict[str, Any], uri: str = URI, version: int = 2) -> None:
        document = {"uri": uri, "version": version}
        self.notify("textDocument/didChange", {"textDocument": document, "contentChanges": list(changes)})

    def request_suggestion(self, position: dict[str, int], *, uri: str = URI, kind: int = 2) -> int:
        params = {"textDocument": {"uri": uri}, "position": position, "context": {"triggerKind": kind}}
        return self.request("textDocument/inlineCompletion", params)

    def suggest(self, position: dict[str, int], *, uri: str = URI, kind: int = 2) -> list[dict[str, Any]]:
        """Asks for a suggestion and gives the items of the reply, which must be a list."""
        answer = self.reply(self.request_suggestion(position, uri=uri, kind=kind))
        assert "error" not in answer, answer
        items: list[dict[str, Any]] = answer["result"]["items"]
        return items

    def suggest_at(self, marked: str, *, uri: str = URI, encoding: str = "utf-16") -> list[dict[str, Any]]:
        """Opens a marked text and asks at the mark."""
        before, after = split(marked)
        self.open(before + after, uri=uri)
        return self.suggest(cursor_after(before, encoding), uri=uri)

    def stop(self) -> int:
        """Shuts the server down as LSP wants it and gives its exit code."""
        self.ask("shutdown", None)
        self.send({"jsonrpc": "2.0", "method": "exit"})
        return self.wait()

    def wait(self) -> int:
        """Waits for the process to end, and for the last of its log."""
        code = self.process.wait(PATIENCE_S)
        for reader in self._readers:
            reader.join(PATIENCE_S)
        return code

    def kill(self) -> None:
        self.process.kill()
        self.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream
            stream.close()

    def _take(self) -> None:
        message = self._inbox.get(timeout=PATIENCE_S)
        assert message is not None, "the server ended:\n" + "\n".join(self.log)
        if "method" in message:
            self.notifications.append(message)
        else:
            assert message["id"] is None or message["id"] not in self._replies, f"answered twice: {message}"
            self._replies[message["id"]] = message

    def _read(self) -> None:
        stdout = self.process.stdout
        assert stdout
        while header := stdout.readline():
            n_bytes = int(header.removeprefix(b"Content-Length:"))
            while stdout.readline().strip():
                pass
            self._inbox.put(json.loads(stdout.read(n_bytes)))
        self._inbox.put(None)

    def _read_log(self) -> None:
        assert self.process.stderr
        self.log.extend(line.decode().rstrip() for line in self.process.stderr)


def write_script(folder: Path, *rules: dict[str, Any]) -> str:
    """Writes a script for the scripted engine and gives its path."""
    path = folder / "script.json"
    path.write_text(json.dumps(rules), "utf-8")
    return str(path)


def texts(items: list[dict[str, Any]]) -> list[str]:
    """The texts of a reply's items."""
    return [item["insertText"] for item in items]


def assert_still_answers(wire: Wire) -> None:
    """After whatever it was sent, the server does what it is for."""
    uri = "file:///project/still.py"
    assert texts(wire.suggest_at(f"def f(a, b):\n    return {CURSOR}\n", uri=uri)) == ["a + b"]
    wire.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
