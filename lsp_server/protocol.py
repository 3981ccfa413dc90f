"""Between JSON-RPC and the rest of the server: reading messages, and answering the broken ones.

pygls' own loop is not used. It answers a request that it can't decode with a pop-up instead of a reply, hangs on
lower-case headers, structures every nested object that happens to hold a "jsonrpc" key, swallows the exit code,
and reads stdin in the pool that runs handlers. Sources: JSON-RPC 2.0, section 5; LSP 3.18 "Base Protocol".
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextvars import copy_context
from enum import IntEnum
from typing import Any

from cattrs import Converter, transform_error
from lsprotocol import types
from pygls.exceptions import JsonRpcException, JsonRpcInvalidParams
from pygls.protocol import JsonRPCRequestMessage, LanguageServerProtocol
from pygls.protocol.json_rpc import JsonRPCNotification

from lsp_server.clients import Client, TriggerKinds
from lsp_server.tracing import request_id

_log = logging.getLogger(__name__)

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
        self.trigger_kinds = TriggerKinds(Client())
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
            data = {name: value for name, value in data.items() if name != "error"}
            return super().structure_message(self._with_trigger_kind(data))
        common = {"method": method, "jsonrpc": "2.0", "params": data.get("params")}
        return JsonRPCRequestMessage(id=data["id"], **common) if "id" in data else JsonRPCNotification(**common)

    def _with_trigger_kind(self, data: dict[str, Any]) -> dict[str, Any]:
        """Gives a request for inline completions LSP's trigger kind, whatever its client's numbering."""
        params = data.get("params")
        context = params.get("context") if isinstance(params, dict) else None
        if data["method"] != types.TEXT_DOCUMENT_INLINE_COMPLETION or not (
            isinstance(params, dict) and isinstance(context, dict)
        ):
            return data
        kind = self.trigger_kinds.read(context.get("triggerKind"))
        return {**data, "params": {**params, "context": {**context, "triggerKind": kind}}}

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
            if method in _OWN_HANDLERS and not _has_true_text(message.get("params")):
                raise JsonRpcInvalidParams("a text must be a string")
        except JsonRpcException as error:
            reasons = "; ".join(transform_error(error.__cause__)) if error.__cause__ else error.message
            self._refuse(message, ErrorCode.INVALID_PARAMS, f"{method!s:.80} can't be read: {reasons:.500}")
            if method is None:
                self._handle_response(message["id"], None, error.to_response_error())
            if "id" not in message and method in (types.TEXT_DOCUMENT_DID_CHANGE, types.NOTEBOOK_DOCUMENT_DID_CHANGE):
                for uri in _uris(message.get("params")):
                    self.on_unreadable_change(uri)
            return
        if "id" in message and not hasattr(structured, "id"):
            self._refuse(message, ErrorCode.INVALID_REQUEST, f"{method} is a notification and takes no id")
            return
        self._initialized = True
        request_id.set(_id(message))
        if method is None:
            self.handle_message(structured)
        elif "id" in message:  # not by pygls' way, which tells messages apart by `isinstance` of protocols: 0.1 ms
            copy_context().run(self._handle_request, structured.id, method, structured.params)
        else:
            copy_context().run(self._handle_notification, method, structured.params)

    def _reply_error(self, msg_id: Any, code: ErrorCode, reason: str) -> None:
        _log.warning("answered request %r with error %d: %s", msg_id, code, reason)
        self._send_data({"jsonrpc": "2.0", "id": msg_id, "error": {"code": int(code), "message": reason}})


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


def _has_true_text(params: Any) -> bool:
    """Tells whether each text is one: the converter makes a document that reads "None" of null."""
    if isinstance(params, list):
        return all(_has_true_text(each) for each in params)
    if isinstance(params, dict):
        return isinstance(params.get("text", ""), str) and all(_has_true_text(each) for each in params.values())
    return True


def _uris(params: Any) -> Iterator[str]:
    """Finds the documents that a change is about, also in one that can't be read."""
    if isinstance(params, list):
        for each in params:
            yield from _uris(each)
    elif isinstance(params, dict):
        uri = params.get("uri")
        if isinstance(uri, str):
            yield uri
        for each in params.values():
            yield from _uris(each)
