"""Every conversion from and to LSP's types. Sources: LSP 3.18, and of each client's ways its own source."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from lsprotocol import types
from pygls.capabilities import ServerCapabilitiesBuilder
from pygls.progress import Progress

from lsp_server.clients import Client
from lsp_server.documents import Change, Document, Query
from lsp_server.suggestions import Suggestion
from lsp_server.text import Encoding, Position

DID_ACCEPT = "midfill.didAccept"  # a command: clients run it once the whole of an item is in the document
_MAX_WORD_CHARS = 200


def encoding_of(capabilities: types.ClientCapabilities) -> Encoding:
    """Tells the position encoding that pygls advertises: the first one listed by the client that is supported."""
    return Encoding(str.__str__(ServerCapabilitiesBuilder.choose_position_encoding(capabilities)))


def position_from(position: types.Position) -> Position:
    return Position(position.line, position.character)


def client_from(params: types.InitializeParams) -> Client:
    text = params.capabilities.text_document
    return Client(params.client_info.name if params.client_info else "", bool(text and text.inline_completion))


def changes_from(content_changes: Sequence[types.TextDocumentContentChangeEvent]) -> list[Change]:
    """Converts edits; `rangeLength`, deprecated and wrong in several clients, is ignored."""
    changes = []
    for change in content_changes:
        if isinstance(change, types.TextDocumentContentChangePartial):
            changes.append(Change(change.text, position_from(change.range.start), position_from(change.range.end)))
        else:
            changes.append(Change(change.text))
    return changes


def query_from(document: Document, position: types.Position, invoked: bool, selected: Change | None) -> Query:
    """Gives the place to complete at: the cursor, or behind a menu's item, as if that had been chosen."""
    if selected and selected.start:
        return Query(document.after(selected), document.text.offset(selected.start) + len(selected.text), invoked)
    return Query(document, document.text.offset(position_from(position)), invoked)


def is_invoked(params: types.InlineCompletionParams) -> bool:
    return params.context.trigger_kind == types.InlineCompletionTriggerKind.Invoked


def selected_from(params: types.InlineCompletionParams) -> Change | None:
    """Gives the completion menu's selected item as the edit that it would make; None where none applies at the cursor."""
    selected = params.context.selected_completion_info
    if selected is None:
        return None
    start, end = position_from(selected.range.start), position_from(selected.range.end)
    applies = start <= position_from(params.position) <= end and start.line == end.line
    return Change(selected.text, start, end) if applies else None


def to_list(
    document: Document | None, suggestions: tuple[Suggestion, ...], selected: Change | None = None
) -> types.InlineCompletionList:
    """Makes the reply, always a list: on null or an error Neovim leaves the old ghost text on the screen."""
    if document is None:
        return types.InlineCompletionList(items=[])
    return types.InlineCompletionList(items=[_item(document, each, selected) for each in suggestions])


def _item(document: Document, suggestion: Suggestion, selected: Change | None) -> types.InlineCompletionItem:
    """Makes a plain string, for a snippet's range is ignored, with its range spelled out: without one Neovim puts the
    text wherever the cursor is by then.

    Where a menu's item is selected, VS Code wants that item's range and text, which this goes on behind; what stands there
    already need not be its beginning, so it is the beginning of what is filtered by.
    """
    item = types.InlineCompletionItem(
        insert_text=suggestion.text,
        range=_range_at(document, suggestion.offset),
        command=_did_accept(suggestion),
    )
    if selected and selected.start and selected.end:
        item.insert_text = selected.text + suggestion.text
        item.range = types.Range(_position(selected.start), _position(selected.end))
        typed = document.text.slice(document.text.offset(selected.start), document.text.offset(selected.end))
        item.filter_text = typed + suggestion.text
    return item


def to_completions(document: Document | None, suggestions: tuple[Suggestion, ...]) -> types.CompletionList:
    """Makes a menu's items, for editors without inline completion: each begins with the word that the cursor is in, by
    which they are filtered, and is asked for again at each key."""
    items = [_completion_item(document, each) for each in suggestions] if document else []
    return types.CompletionList(is_incomplete=True, items=items)


def _completion_item(document: Document, suggestion: Suggestion) -> types.CompletionItem:
    line = document.text.slice(max(0, suggestion.offset - _MAX_WORD_CHARS), suggestion.offset)
    word = re.search(r"\w*\Z", line)
    assert word
    text = word[0] + suggestion.text
    start, end = document.text.position(suggestion.offset - len(word[0])), document.text.position(suggestion.offset)
    return types.CompletionItem(
        label=text.strip().partition("\n")[0],
        kind=types.CompletionItemKind.Text,
        detail="midfill",
        documentation=text,
        filter_text=text,
        insert_text_format=types.InsertTextFormat.PlainText,
        insert_text_mode=types.InsertTextMode.AsIs,
        text_edit=types.TextEdit(types.Range(_position(start), _position(end)), text),
        command=_did_accept(suggestion),
    )


def _did_accept(suggestion: Suggestion) -> types.Command:
    return types.Command(title="", command=DID_ACCEPT, arguments=[{"id": suggestion.id}])


def _range_at(document: Document, offset: int) -> types.Range:
    place = _position(document.text.position(offset))
    return types.Range(start=place, end=place)


def _position(position: Position) -> types.Position:
    return types.Position(line=position.line, character=position.character)


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
