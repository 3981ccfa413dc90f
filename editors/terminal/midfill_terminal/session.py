"""One conversation with `midfill serve` over its stdio: open a document, ask, and be told what it cost."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from lsprotocol import types
from pygls.lsp.client import LanguageClient

from midfill_terminal.places import Place

STATUS_EVERY_S = 0.1
DEADLINE_MS = 10_000  # a person who asks by hand would rather wait than see nothing


class NoModel(Exception):
    """The server runs, but no model answers behind it; the message says why."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Text to put in place of [start, end), offsets into the document."""

    start: int
    end: int
    text: str


class Session:
    """A running server, initialised."""

    def __init__(self, client: LanguageClient) -> None:
        self._client = client

    async def status(self) -> dict[str, Any]:
        """The server's `midfill/status`."""
        answer: dict[str, Any] = _plain(await self._client.protocol.send_request_async("midfill/status", {}))
        return answer

    async def wait_until_ready(self, on_status: Callable[[dict[str, Any]], None]) -> None:
        """Waits until a model is loaded. Raises: NoModel where none will be, also where a script stands in for one."""
        while True:
            status = await self.status()
            on_status(status)
            match status["state"]:
                case "loading" | "warming":
                    await asyncio.sleep(STATUS_EVERY_S)
                case "engine_down":
                    raise NoModel(f"the engine is down: {status['detail']}")
                case _ if status["model"] == "scripted":
                    raise NoModel("the scripted engine replays written text; choose another with --engine")
                case _:
                    return

    def open(self, place: Place) -> None:
        """Opens the place's text as a document of its path."""
        item = types.TextDocumentItem(_uri(place), language_id=language_of(place), version=1, text=place.text)
        self._client.text_document_did_open(types.DidOpenTextDocumentParams(item))

    async def suggest(self, place: Place) -> Suggestion | None:
        """Asks for a suggestion at a place of an open document, as a person would on demand."""
        answer = await self._client.text_document_inline_completion_async(
            types.InlineCompletionParams(
                types.InlineCompletionContext(types.InlineCompletionTriggerKind.Invoked),
                types.TextDocumentIdentifier(_uri(place)),
                types.Position(place.line, place.character),
            )
        )
        items = answer.items if isinstance(answer, types.InlineCompletionList) else answer or []
        return _suggestion(items[0], place) if items else None


@asynccontextmanager
async def open_session(serve_args: list[str]) -> AsyncIterator[Session]:
    """Starts `midfill serve` with the arguments, initialises it with UTF-32 positions, and shuts it down at the end."""
    client = LanguageClient("midfill-terminal", version("midfill"))
    await client.start_io(sys.executable, "-m", "lsp_server", "serve", "--log-level", "error", *serve_args)
    try:
        general = types.GeneralClientCapabilities(position_encodings=[types.PositionEncodingKind.Utf32])
        capabilities = types.ClientCapabilities(general=general)
        options = {"deadline_ms": DEADLINE_MS}
        params = types.InitializeParams(capabilities, process_id=os.getpid(), initialization_options=options)
        await client.initialize_async(params)
        client.initialized(types.InitializedParams())
        yield Session(client)
    finally:
        await client.shutdown_async(None)
        client.exit(None)
        await client.stop()


def _uri(place: Place) -> str:
    return place.path.resolve().as_uri()


def _plain(value: Any) -> Any:
    """Undoes pygls' reading of unknown JSON objects as named tuples."""
    return {name: _plain(item) for name, item in value._asdict().items()} if hasattr(value, "_asdict") else value


def language_of(place: Place) -> str:
    """LSP's language id, by the file's name."""
    from pygments.lexers import get_lexer_for_filename
    from pygments.util import ClassNotFound

    try:
        return str(get_lexer_for_filename(place.path.name).aliases[0])
    except ClassNotFound:
        return "text"  # the lexer's name for plain text


def _suggestion(item: types.InlineCompletionItem, place: Place) -> Suggestion:
    text = item.insert_text if isinstance(item.insert_text, str) else item.insert_text.value
    if item.range is None:
        return Suggestion(place.offset, place.offset, text)
    lines = place.text.split("\n")

    def offset(position: types.Position) -> int:
        return sum(len(line) + 1 for line in lines[: position.line]) + position.character

    return Suggestion(offset(item.range.start), offset(item.range.end), text)
