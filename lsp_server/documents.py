"""The open documents: immutable snapshots, and the one place that knows which is the newest.

pygls' own text document is never used (docs in ARCHITECTURE.md): it splits lines where LSP does not and fails
on an end position past the line's end.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from lsp_server.privacy import has_no_file
from lsp_server.text import Encoding, Position, Text

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One version of an open document. A private one never holds text, so that none can leak."""

    uri: str
    language: str
    version: int | None
    text: Text
    private: bool = False

    def after(self, change: Change) -> Document:
        """Gives the document as an edit would leave it; nothing is kept of a private one."""
        return self if self.private else replace(self, text=_apply(self.text, change))


@dataclass(frozen=True, slots=True)
class Change:
    """One edit in the client's units; without a range, `text` is the whole document."""

    text: str
    start: Position | None = None
    end: Position | None = None


@dataclass(frozen=True, slots=True)
class Edit:
    """What one change did, in offsets of the text before it."""

    offset: int
    removed: str
    inserted: str


@dataclass(frozen=True, slots=True)
class Query:
    """One request: a place in one version of a document."""

    document: Document
    offset: int
    invoked: bool = False


class DocumentStore:
    """Owns the newest snapshot of each open document; whether a snapshot is stale is whether it is still the one here."""

    def __init__(self, is_private: Callable[[str, str, str], bool]) -> None:
        """`is_private` judges by URI, language and text."""
        self.encoding = Encoding.UTF_16
        self._is_private = is_private
        self._documents: dict[str, Document] = {}

    def get(self, uri: str) -> Document | None:
        return self._documents.get(uri)

    def open(self, uri: str, *, language: str = "", version: int | None = None, text: str = "") -> Document:
        """Takes a document's whole text; a second open replaces the first, for the client's text is the truth."""
        if uri in self._documents:
            _log.warning("document %s was opened again without a close: its text is replaced", uri)
        private = self._is_private(uri, language, text)
        held = Text.of("" if private else text, self.encoding)
        document = Document(uri=uri, language=language, version=version, text=held, private=private)
        self._documents[uri] = document
        return document

    def change(self, uri: str, *, version: int | None, changes: Sequence[Change]) -> Document | None:
        """Applies the changes in order; None where there is no text to apply them to.

        A whole text is as good as an open, so it also brings back a document that was lost.
        """
        old = self._documents.get(uri)
        if old is None:
            if not changes or changes[-1].start is not None:
                _log.warning("change of %s ignored: the document is not open", uri)
                return None
            return self.open(uri, version=version, text=changes[-1].text)
        if version is not None and old.version is not None and version <= old.version:
            _log.warning(
                "document %s went from version %d to %d: its changes are applied all the same", uri, old.version, version
            )
        document = replace(old, version=version)
        for change in changes:
            document = document.after(change)
        is_pasted = has_no_file(uri) and any("\n" in change.text for change in changes)
        if is_pasted and not old.private and self._is_private_now(document):
            document = replace(document, private=True, text=Text.of("", self.encoding))
        self._documents[uri] = document
        return document

    def edit_in(self, uri: str, changes: Sequence[Change]) -> Edit | None:
        """Tells what a change that is about to be applied does; None where it has many parts, or is a whole new text."""
        old = self._documents.get(uri)
        if old is None or len(changes) != 1 or changes[0].start is None or changes[0].end is None:
            return None
        inserted = changes[0].text
        if changes[0].start == changes[0].end:
            return Edit(old.text.offset(changes[0].start), "", inserted)
        start, end = sorted(old.text.offset(each) for each in (changes[0].start, changes[0].end))
        removed = old.text.slice(start, end)
        if removed and inserted:  # some editors replace a word to delete its end
            n_same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(removed, inserted, strict=False)))
            start, removed, inserted = start + n_same, removed[n_same:], inserted[n_same:]
        return Edit(start, removed, inserted)

    def is_private(self, uri: str, language: str, text: str) -> bool:
        """Tells whether what a message says of a document may not be kept."""
        known = self._documents.get(uri)
        return bool(known and known.private) or self._is_private(uri, language, text)

    def rejudge(self) -> list[str]:
        """Drops the text of the documents that have become private, and names them."""
        refused = [uri for uri, each in self._documents.items() if not each.private and self._is_private_now(each)]
        for uri in refused:
            old = self._documents[uri]
            self._documents[uri] = replace(old, private=True, text=Text.of("", self.encoding))
        return refused

    def lose(self, uri: str) -> None:
        """Forgets a document one of whose changes could not be read: from here on its text would be wrong."""
        if self._documents.pop(uri, None):
            _log.error("document %s is out of step with the editor and gets no suggestions until it is opened again", uri)

    def _is_private_now(self, document: Document) -> bool:
        text = document.text
        return self._is_private(
            document.uri, document.language, text.slice(0, text.n_chars) if has_no_file(document.uri) else ""
        )

    def close(self, uri: str) -> None:
        if self._documents.pop(uri, None) is None:
            _log.warning("close of %s ignored: the document is not open", uri)


def _apply(text: Text, change: Change) -> Text:
    if change.start is None or change.end is None:
        return Text.of(change.text, text.encoding)
    return text.replace(change.start, change.end, change.text)
