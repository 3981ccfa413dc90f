"""What the server itself costs at a key: `make bench-server` types into a 20,000-line document.

Writes build/bench/server.json.

A client sends didChange and, with it, a request for an inline completion, 30 times a second, and measures the time to the
reply, pipes included. Beside it in the same run, key by key in turns: a server on pygls' own text document that answers with
a fixed text, and ours on the scripted engine.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lsp_server.stdio import Frames

N_LINES = 20_000
KEYS_PER_S = 30
URI = "file:///project/long.py"
WORDS = ("total", "items", "index", "self.value", "return", "result", "for", "name")


class Client:
    """One server process and a document in it."""

    def __init__(self, name: str, command: list[str], folder: Path, lines: list[str]) -> None:
        self.name = name
        self.typing_ms: list[float] = []
        self.jumps_ms: list[float] = []
        self.n_shown = 0
        self._frames = Frames()
        private = dict.fromkeys(("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"), str(folder))
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ, **private}
        )
        self._next_id, self._version = 0, 1
        capabilities = {"general": {"positionEncodings": ["utf-16"]}, "textDocument": {"inlineCompletion": {}}}
        client = {"name": "Neovim"}  # waits by itself: what is measured is the server, not its waiting
        self._ask("initialize", {"processId": None, "rootUri": None, "capabilities": capabilities, "clientInfo": client})
        self._send("initialized", {})
        item = {"uri": URI, "languageId": "python", "version": 1, "text": "".join(lines)}
        self._send("textDocument/didOpen", {"textDocument": item})
        self._request(0, 0)  # once it is answered, all has been imported and the document read

    def edit(self, line: int, character: int, text: str) -> None:
        """Inserts a text."""
        self._version += 1
        at = {"line": line, "character": character}
        document = {"uri": URI, "version": self._version}
        changes = [{"range": {"start": at, "end": at}, "text": text}]
        self._send("textDocument/didChange", {"textDocument": document, "contentChanges": changes})

    def key(self, line: int, character: int, text: str) -> None:
        """Types a text and asks behind it."""
        started_s = time.perf_counter()
        self.edit(line, character, text)
        items = self._request(line, character + len(text))
        times = self.typing_ms if character else self.jumps_ms
        times.append((time.perf_counter() - started_s) * 1000)
        self.n_shown += bool(items)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _request(self, line: int, character: int) -> list[Any]:
        place = {"line": line, "character": character}
        params = {"textDocument": {"uri": URI}, "position": place, "context": {"triggerKind": 2}}
        items: list[Any] = self._ask("textDocument/inlineCompletion", params)["result"]["items"]
        return items

    def _send(self, method: str, params: Any, **more: Any) -> None:
        assert self._process.stdin
        body = json.dumps({"jsonrpc": "2.0", "method": method, "params": params, **more}).encode()
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        self._process.stdin.flush()

    def _ask(self, method: str, params: Any) -> dict[str, Any]:
        assert self._process.stdout
        self._next_id += 1
        self._send(method, params, id=self._next_id)
        while True:
            data = os.read(self._process.stdout.fileno(), 1 << 16)
            if not data:
                raise RuntimeError(f"{self.name} ended")
            for body in self._frames.feed(data):
                message: dict[str, Any] = json.loads(body)
                if message.get("id") == self._next_id and "method" not in message:
                    return message

    def summary(self) -> dict[str, Any]:
        return {"shown": self.n_shown, "typing": _summary(self.typing_ms), "first_key_after_a_jump": _summary(self.jumps_ms)}


def _summary(times_ms: list[float]) -> dict[str, float]:
    ordered = sorted(times_ms)
    quantiles = {
        f"p{share}_ms": round(ordered[min(len(ordered) - 1, share * len(ordered) // 100)], 3) for share in (50, 90, 99)
    }
    return {"keys": len(ordered), **quantiles, "max_ms": round(ordered[-1], 3)}


def serve_on_pygls() -> None:
    """Is the peer: pygls' text document, the line before the cursor read from it, and always the same answer."""
    from lsprotocol import types
    from pygls.lsp.server import LanguageServer

    server = LanguageServer("peer", "0")

    @server.feature(types.TEXT_DOCUMENT_INLINE_COMPLETION, types.InlineCompletionOptions())
    async def complete(ls: LanguageServer, params: types.InlineCompletionParams) -> types.InlineCompletionList:
        document = ls.workspace.get_text_document(params.text_document.uri)
        head = document.lines[params.position.line][: params.position.character]
        item = types.InlineCompletionItem(
            "done()" if head.strip() else "pass", range=types.Range(params.position, params.position)
        )
        return types.InlineCompletionList([item])

    server.start_io()


def document(rng: random.Random) -> list[str]:
    """Functions of a dozen lines each, in the second half methods of one class: what stands near them begins nowhere."""
    lines: list[str] = []
    while len(lines) < N_LINES:
        name, *words = rng.choices(WORDS[:3], k=11)
        lines.append(f"def {name}_{len(lines)}(items, index):\n")
        lines += [f"    {word} = items[index + {rng.randint(0, 99)}]  # {rng.choice(WORDS)}\n" for word in words]
        lines.append("    return items\n")
    half = N_LINES // 2
    return [*lines[:half], "class Long:\n", *("    " + line for line in lines[half : N_LINES - 1])]


def keys(rng: random.Random, n_keys: int) -> list[tuple[int, int, str]]:
    """Runs of typing on new lines all over the document: line, character and what is typed there; an indent is a jump."""
    typed: list[tuple[int, int, str]] = []
    while len(typed) < n_keys:
        line, words = rng.randrange(1, N_LINES), rng.choices(WORDS[:3], k=12)
        text = " = ".join([words[0], ".".join(words[1:])])
        typed += [(line, 0, "    "), *((line, 4 + idx, char) for idx, char in enumerate(text))]
    return typed[:n_keys]


def measure(seconds: float, seed: int) -> dict[str, dict[str, Any]]:
    rng = random.Random(seed)
    lines, typed = document(rng), keys(rng, round(seconds * KEYS_PER_S))
    with tempfile.TemporaryDirectory() as name:
        script = Path(name) / "script.json"
        rules = [{"prefix_ends": f"{word} = ", "text": "items.total(index)\n"} for word in WORDS[:3]]
        script.write_text(json.dumps([*rules, {"prefix_ends": "", "text": "value(items)\n"}]), "utf-8")
        ours = [sys.executable, "-m", "lsp_server", "serve", "--engine", "scripted", "--script", str(script)]
        peer = [sys.executable, "-c", "from tests.bench.server import serve_on_pygls; serve_on_pygls()"]
        clients = [Client("midfill", ours, Path(name), lines), Client("pygls_document", peer, Path(name), lines)]
        for at in typed:
            next_s = time.perf_counter() + 1 / KEYS_PER_S
            for client in clients:
                if at[1] == 0:
                    client.edit(at[0], 0, "\n")
                client.key(*at)
            time.sleep(max(0.0, next_s - time.perf_counter()))
        for client in clients:
            client.close()
    return {client.name: client.summary() for client in clients}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("build/bench/server.json"))
    args = parser.parse_args()
    result: dict[str, Any] = dict(measure(args.seconds, args.seed))
    for share in ("p50_ms", "p99_ms"):
        ratio = result["pygls_document"]["typing"][share] / result["midfill"]["typing"][share]
        result[f"typing_ratio_{share.removesuffix('_ms')}"] = round(ratio, 2)
    result["document"] = {"lines": N_LINES, "keys_per_s": KEYS_PER_S}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
