"""Between JSON-RPC and the rest of the server: reading messages, answering the broken ones, converting types.

pygls' own loop is not used. It answers a request that it can't decode with a pop-up instead of a reply, hangs on
lower-case headers, structures every nested object that happens to hold a "jsonrpc" key, swallows the exit code,
and reads stdin in the pool that runs handlers. Sources: JSON-RPC 2.0, section 5; LSP 3.18 "Base Protocol".
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from enum import IntEnum
from typing import Any

from cattrs import Converter, transform_error
from lsprotocol import types
from pygls.capabilities import ServerCapabilitiesBuilder
from pygls.exceptions import JsonRpcException
from pygls.progress import Progress
from pygls.protocol import JsonRPCRequestMessage, LanguageServerProtocol, default_converter
from pygls.protocol.json_rpc import JsonRPCNotification

from lsp_server.documents import Change, Document
from lsp_server.suggestions import Suggestion
from lsp_server.text import Encoding, Position
from lsp_server.tracing import request_id

_log = logging.getLogger(__name__)

DID_ACCEPT = "midfill.didAccept"  # a command: clients run it once the whole of an item is in the document

# Ours replace these: pygls would edit its own text document before our handlers see the change.
_OWN_HANDLERS = (
    types.TEXT_DOCUMENT_DID_OPEN,
    types.TEXT_DOCUMENT_DID_CHANGE,
    types.TEXT_DOCUMENT_DID_CLOSE,
    types.NOTEBOOK_DOCUMENT_DID_OPEN,
    types.NOTEBOOK_DOCUMENT_DID_CHANGE,
    types.NOTEBOOK_DOCUMENT_DID_CLOSE,
)


class ErrorCode(IntEnum):
    """The error replies that are given here; pygls gives the rest."""

    PARSE_ERROR = -32700
    INVALID_REQUEST = -32600
    INVALID_PARAMS = -32602
    NOT_INITIALIZED = -32002


class MidfillProtocol(LanguageServerProtocol):
    """One message in, handled or answered with an error: no request goes without a reply, no message stops the server."""

    def __init__(self, server: Any, converter: Converter) -> None:
        super().__init__(server, converter)
        for name in _OWN_HANDLERS:
            self.fm.builtin_features.pop(name, None)
        self._initialized = False
        self.on_exit: Callable[[int], None] = lambda code: None
        self.on_unreadable_change: Callable[[str], None] = lambda uri: None

    def receive(self, body: bytes) -> None:
        """Handles one message, whatever it holds."""
        try:
            message = json.loads(body)
        except (ValueError, RecursionError) as error:
            self._reply_error(None, ErrorCode.PARSE_ERROR, f"a message is not JSON: {error}")
            return
        if problem := _problem(message):
            self._reply_error(_id(message), ErrorCode.INVALID_REQUEST, problem)
        elif message.get("method") == types.EXIT:
            self.on_exit(0 if self._shutdown else 1)
        elif refusal := self._refusal(message):
            self._refuse(message, *refusal)
        elif "method" not in message and _id(message) not in self._result_types:
            # pygls keeps running requests and awaited replies in one table: this would end a request of the client's.
            _log.warning("ignored a reply to %.80r, which was never asked", message.get("id"))
        else:
            self._dispatch(message)

    def structure_message(self, data: dict[str, Any]) -> Any:
        """Makes a typed message; the parameters of methods that LSP does not have stay as they came, and may be missing.

        Raises: JsonRpcException where a message of LSP is not as it should be.
        """
        method = data.get("method")
        if method is None:
            return super().structure_message(data)
        if self.get_message_type(method):
            # pygls would take a request that also holds an `error`, if only null, for a reply.
            return super().structure_message({name: value for name, value in data.items() if name != "error"})
        common = {"method": method, "jsonrpc": "2.0", "params": data.get("params")}
        return JsonRPCRequestMessage(id=data["id"], **common) if "id" in data else JsonRPCNotification(**common)

    def _handle_cancel_notification(self, msg_id: Any) -> None:
        """Lets no other value through to a table look-up: the converter takes anything for an id here."""
        if _is_id(msg_id):
            super()._handle_cancel_notification(msg_id)

    def _refusal(self, message: dict[str, Any]) -> tuple[ErrorCode, str] | None:
        """Says why a message comes at the wrong time, if it does."""
        is_initialize = message.get("method") == types.INITIALIZE
        if self._shutdown:
            return ErrorCode.INVALID_REQUEST, "the server is shutting down"
        if not self._initialized and not is_initialize:
            return ErrorCode.NOT_INITIALIZED, "the first request must be initialize"
        if self._initialized and is_initialize:
            return ErrorCode.INVALID_REQUEST, "the server is initialized already"
        return None

    def _refuse(self, message: dict[str, Any], code: ErrorCode, reason: str) -> None:
        if "method" in message and "id" in message:
            self._reply_error(message["id"], code, reason)
        else:
            _log.warning("ignored %.80r: %s", message.get("method", "a reply"), reason)

    def _dispatch(self, message: dict[str, Any]) -> None:
        method = message.get("method")
        try:
            structured = self.structure_message(message)
        except JsonRpcException as error:
            reasons = "; ".join(transform_error(error.__cause__ or error))
            self._refuse(message, ErrorCode.INVALID_PARAMS, f"{method!s:.80} can't be read: {reasons:.500}")
            if method is None:
                self._handle_response(message["id"], None, error.to_response_error())
            if method == types.TEXT_DOCUMENT_DID_CHANGE and (uri := _uri(message)) is not None:
                self.on_unreadable_change(uri)
            return
        if "id" in message and not hasattr(structured, "id"):
            self._refuse(message, ErrorCode.INVALID_REQUEST, f"{method} is a notification and takes no id")
            return
        self._initialized = True
        request_id.set(_id(message))
        self.handle_message(structured)

    def _reply_error(self, msg_id: Any, code: ErrorCode, reason: str) -> None:
        _log.warning("answered request %r with error %d: %s", msg_id, code, reason)
        self._send_data({"jsonrpc": "2.0", "id": msg_id, "error": {"code": int(code), "message": reason}})


class Loading:
    """The model being loaded, as one of the editor's progress bars."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._token: str | None = None
        self._is_begun = False
        self._n_loaded = 0

    def tell(self, status: dict[str, Any]) -> None:
        """Begins, moves or ends the bar."""
        is_loading = status["state"] in ("loading", "warming")
        message = f"{status['state']} {status['model']}".strip()
        percentage = None if status["progress"] is None else round(100 * status["progress"])
        if is_loading and self._token is None:
            self._n_loaded += 1
            token = self._token = f"midfill-loading-{self._n_loaded}"
            self._progress.create(token, lambda _: self._begin(token, message, percentage))
        elif is_loading and self._is_begun:
            self._progress.report(str(self._token), types.WorkDoneProgressReport(message=message, percentage=percentage))
        elif not is_loading:
            if self._is_begun:
                self._progress.end(str(self._token), types.WorkDoneProgressEnd(message=status["state"]))
            self._token, self._is_begun = None, False

    def _begin(self, token: str, message: str, percentage: int | None) -> None:
        """Shows the bar, once the editor has made it, unless loading has ended by then."""
        if token == self._token:
            self._is_begun = True
            self._progress.begin(token, types.WorkDoneProgressBegin(title="midfill", message=message, percentage=percentage))


def make_converter() -> Converter:
    """Gives pygls' converter, with the trigger kind of vscode-languageclient 9 understood.

    That one passes VS Code's own numbers on, where 0 is invoked; its 1, automatic, can't be told from LSP's invoked.
    """
    converter = default_converter()  # type: ignore[no-untyped-call]
    kinds = types.InlineCompletionTriggerKind
    converter.register_structure_hook(kinds, lambda value, _: kinds.Invoked if value == 0 else kinds(value))
    return converter  # type: ignore[no-any-return]


def encoding_of(capabilities: types.ClientCapabilities) -> Encoding:
    """Tells the position encoding that pygls advertises: the first one listed by the client that is supported."""
    return Encoding(str.__str__(ServerCapabilitiesBuilder.choose_position_encoding(capabilities)))


def position_from(position: types.Position) -> Position:
    return Position(position.line, position.character)


def changes_from(params: types.DidChangeTextDocumentParams) -> list[Change]:
    """Converts edits; `rangeLength`, deprecated and wrong in several clients, is ignored."""
    changes = []
    for change in params.content_changes:
        if isinstance(change, types.TextDocumentContentChangePartial):
            changes.append(Change(change.text, position_from(change.range.start), position_from(change.range.end)))
        else:
            changes.append(Change(change.text))
    return changes


def is_invoked(params: types.InlineCompletionParams) -> bool:
    return params.context.trigger_kind == types.InlineCompletionTriggerKind.Invoked


def to_list(document: Document | None, suggestions: tuple[Suggestion, ...]) -> types.InlineCompletionList:
    """Makes the reply, always a list: on null or an error Neovim leaves the old ghost text on the screen.

    An item is a plain string, for a snippet's range is ignored, with the empty range at the cursor spelled out:
    without one Neovim puts the text wherever the cursor is by then.
    """
    return types.InlineCompletionList(items=[_item(document, each) for each in suggestions] if document else [])


def _item(document: Document, suggestion: Suggestion) -> types.InlineCompletionItem:
    place = document.text.position(suggestion.offset)
    cursor = types.Position(line=place.line, character=place.character)
    return types.InlineCompletionItem(
        insert_text=suggestion.text,
        range=types.Range(start=cursor, end=cursor),
        command=types.Command(title="", command=DID_ACCEPT, arguments=[{"id": suggestion.id}]),
    )


def _problem(message: Any) -> str | None:
    """Says why something is no message of JSON-RPC's, if so."""
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        return "a message must be one JSON-RPC 2.0 object"
    if "method" not in message:
        return None
    if not isinstance(message["method"], str):
        return f"a method must be a text, got {message['method']!r:.80}"
    if "id" in message and _id(message) is None:
        return f"an id must be a number or a text, got {message['id']!r:.80}"
    return None


def _id(message: Any) -> int | str | None:
    """Gives the id to reply to; None where there is no usable one."""
    msg_id = message.get("id") if isinstance(message, dict) else None
    return msg_id if _is_id(msg_id) else None


def _is_id(value: Any) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)


def _uri(message: dict[str, Any]) -> str | None:
    params = message.get("params")
    document = params.get("textDocument") if isinstance(params, dict) else None
    uri = document.get("uri") if isinstance(document, dict) else None
    return uri if isinstance(uri, str) else None
