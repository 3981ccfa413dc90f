"""One conversation with `midfill serve` over its stdio: open a document, ask, and be told what it cost."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, TypeVar

from lsprotocol import types
from pygls.lsp.client import LanguageClient

from midfill_terminal.places import Place

T = TypeVar("T")

STATUS_EVERY_S = 0.1
DEADLINE_MS = 10_000  # a person who asks by hand would rather wait than see nothing


@dataclass(frozen=True, slots=True)
class Change:
    """An edit, in lines and code points of the text before it; without places the text is all of the new one."""

    text: str
    start: tuple[int, int] | None = None
    end: tuple[int, int] | None = None


class NoModel(Exception):
    """The server runs, but no model answers behind it; the message says why."""


class ServerEnded(Exception):
    """The server's process is gone; what was asked of it has no answer."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Text to put in place of [start, end), offsets into the document."""

    start: int
    end: int
    text: str
    command: types.Command | None = None

    @property
    def id(self) -> str | None:
        """What the server knows it by."""
        arguments = self.command and self.command.arguments
        return _plain(arguments[0]).get("id") if arguments else None


class _Client(LanguageClient):
    """pygls' client, which says when its server has ended."""

    def __init__(self) -> None:
        super().__init__("midfill-terminal", version("midfill"))
        self.ended = asyncio.Event()
        self.on_status: Callable[[dict[str, Any]], None] = lambda status: None
        self.on_message: Callable[[str], None] = lambda message: None
        self.feature("midfill/didChangeStatus")(lambda status: self.on_status(_plain(status)))
        self.feature(types.WINDOW_SHOW_MESSAGE)(lambda params: self.on_message(params.message))

    async def server_exit(self, server: asyncio.subprocess.Process) -> None:
        self.ended.set()

    async def unless_ended(self, answer: Awaitable[T]) -> T:
        """Waits for an answer. Raises: ServerEnded; pygls waits for ever for what was asked after the end."""
        asked, ended = asyncio.ensure_future(answer), asyncio.create_task(self.ended.wait())
        try:
            await asyncio.wait((asked, ended), return_when=asyncio.FIRST_COMPLETED)
            if asked.done() and not (self._has_exited and asked.exception()):
                return asked.result()
            raise ServerEnded
        finally:
            # The question itself is not cancelled: pygls has no use for an answer to one that was.
            asked.add_done_callback(lambda done: done.cancelled() or done.exception())
            ended.cancel()

    @property
    def _has_exited(self) -> bool:
        return self._server is not None and self._server.returncode is not None

    def kill(self) -> None:
        """Ends the server as a crash would."""
        if self._server is not None:
            self._server.kill()


class Session:
    """A running server, initialised."""

    def __init__(self, client: _Client) -> None:
        self._client = client
        self.ended = client.ended

    def listen(self, on_status: Callable[[dict[str, Any]], None], on_message: Callable[[str], None]) -> None:
        """Passes on what the server says of itself."""
        self._client.on_status, self._client.on_message = on_status, on_message

    async def status(self) -> dict[str, Any]:
        """The server's `midfill/status`."""
        asked = self._client.protocol.send_request_async("midfill/status", {})
        answer: dict[str, Any] = _plain(await self._client.unless_ended(asked))
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

    def kill(self) -> None:
        """Ends the server as a crash would."""
        self._client.kill()

    def open(self, place: Place, version: int = 1) -> None:
        """Opens the place's text as a document of its path."""
        item = types.TextDocumentItem(_uri(place), language_id=language_of(place), version=version, text=place.text)
        self._client.text_document_did_open(types.DidOpenTextDocumentParams(item))

    def change(self, place: Place, version: int, change: Change) -> None:
        """Passes on an edit of an open document."""
        event: types.TextDocumentContentChangeEvent = types.TextDocumentContentChangeWholeDocument(change.text)
        if change.start is not None and change.end is not None:
            places = types.Range(types.Position(*change.start), types.Position(*change.end))
            event = types.TextDocumentContentChangePartial(places, change.text)
        document = types.VersionedTextDocumentIdentifier(version, _uri(place))
        self._client.text_document_did_change(types.DidChangeTextDocumentParams(document, [event]))

    async def suggest(self, place: Place, *, is_invoked: bool = True) -> list[Suggestion]:
        """Asks for suggestions at a place of an open document, best first; several only where a person asks."""
        kinds = types.InlineCompletionTriggerKind
        params = types.InlineCompletionParams(
            types.InlineCompletionContext(kinds.Invoked if is_invoked else kinds.Automatic),
            types.TextDocumentIdentifier(_uri(place)),
            types.Position(place.line, place.character),
        )
        answer = await self._client.unless_ended(self._client.text_document_inline_completion_async(params))
        items = answer.items if isinstance(answer, types.InlineCompletionList) else answer or []
        return [_suggestion(item, place) for item in items]

    def did_show(self, suggestion: Suggestion) -> None:
        self._report("didShow", suggestion)

    def did_dismiss(self, suggestion: Suggestion) -> None:
        self._report("didDismiss", suggestion)

    def did_partially_accept(self, suggestion: Suggestion, n_chars: int) -> None:
        """Reports how much of the suggestion's text is in the document, in code points."""
        length = len(suggestion.text[:n_chars].encode("utf-16-le")) // 2
        self._report("didPartiallyAccept", suggestion, acceptedLength=length)

    async def did_accept(self, suggestion: Suggestion) -> None:
        """Runs the command that came with a suggestion, all of which is in the document."""
        if command := suggestion.command:
            params = types.ExecuteCommandParams(command.command, command.arguments)
            await self._client.unless_ended(self._client.workspace_execute_command_async(params))

    def _report(self, what: str, suggestion: Suggestion, **more: Any) -> None:
        if suggestion.id is not None:
            self._client.protocol.notify(f"midfill/{what}", {"id": suggestion.id, **more})


@asynccontextmanager
async def open_session(serve_args: list[str], deadline_ms: int | None = DEADLINE_MS) -> AsyncIterator[Session]:
    """Starts `midfill serve` with the arguments, initialises it with UTF-32 positions, and shuts it down at the end."""
    client = _Client()
    await client.start_io(sys.executable, "-P", "-m", "lsp_server", "serve", "--log-level", "error", *serve_args)
    try:
        general = types.GeneralClientCapabilities(position_encodings=[types.PositionEncodingKind.Utf32])
        inline = types.TextDocumentClientCapabilities(inline_completion=types.InlineCompletionClientCapabilities())
        capabilities = types.ClientCapabilities(general=general, text_document=inline)
        # What is tried is the model, sure of what it writes or not.
        options: dict[str, object] = {"gate": False} | ({} if deadline_ms is None else {"deadline_ms": deadline_ms})
        params = types.InitializeParams(capabilities, process_id=os.getpid(), initialization_options=options)
        await client.unless_ended(client.initialize_async(params))
        client.initialized(types.InitializedParams())
        yield Session(client)
    finally:
        if not client.ended.is_set():
            with suppress(ServerEnded):
                await client.unless_ended(client.shutdown_async(None))
            client.exit(None)
        await client.stop()


def _uri(place: Place) -> str:
    return place.path.resolve().as_uri()


def _plain(value: Any) -> Any:
    """Undoes pygls' reading of unknown JSON objects as named tuples."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
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
        return Suggestion(place.offset, place.offset, text, item.command)
    lines = place.text.split("\n")

    def offset(position: types.Position) -> int:
        return sum(len(line) + 1 for line in lines[: position.line]) + position.character

    return Suggestion(offset(item.range.start), offset(item.range.end), text, item.command)
