"""Documents as the editor opens, changes and closes them: files, and the cells of notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lsprotocol import types

from lsp_server import conversion

if TYPE_CHECKING:
    from lsp_server.server import MidfillServer


def open_document(ls: MidfillServer, params: types.DidOpenTextDocumentParams) -> None:
    _open_one(ls, params.text_document)


def _open_one(ls: MidfillServer, opened: types.TextDocumentItem) -> None:
    document = ls.documents.open(opened.uri, language=str(opened.language_id), version=opened.version, text=opened.text)
    ls.scheduler.opened(document, ls.settings)


def change_document(ls: MidfillServer, params: types.DidChangeTextDocumentParams) -> None:
    _change_one(ls, params.text_document, params.content_changes)


def _change_one(
    ls: MidfillServer,
    changed: types.VersionedTextDocumentIdentifier,
    content_changes: Sequence[types.TextDocumentContentChangeEvent],
) -> None:
    changes, old = conversion.changes_from(content_changes), ls.documents.get(changed.uri)
    edit = ls.documents.edit_in(changed.uri, changes)
    document = ls.documents.change(changed.uri, version=changed.version, changes=changes)
    if document and document.private and old and not old.private:
        ls.scheduler.closed(document.uri)
    elif document:
        ls.scheduler.edited(document, edit)


def close_document(ls: MidfillServer, params: types.DidCloseTextDocumentParams) -> None:
    _close_one(ls, params.text_document)


def _close_one(ls: MidfillServer, closed: types.TextDocumentIdentifier) -> None:
    ls.documents.close(closed.uri)
    ls.scheduler.closed(closed.uri)


def open_notebook(ls: MidfillServer, params: types.DidOpenNotebookDocumentParams) -> None:
    for cell in params.cell_text_documents:
        _open_one(ls, cell)


def change_notebook(ls: MidfillServer, params: types.DidChangeNotebookDocumentParams) -> None:
    cells = params.change.cells
    if cells is None:
        return
    if cells.structure:
        for opened in cells.structure.did_open or ():
            _open_one(ls, opened)
        for closed in cells.structure.did_close or ():
            _close_one(ls, closed)
    for each in cells.text_content or ():
        _change_one(ls, each.document, each.changes)


def close_notebook(ls: MidfillServer, params: types.DidCloseNotebookDocumentParams) -> None:
    for cell in params.cell_text_documents:
        _close_one(ls, cell)
