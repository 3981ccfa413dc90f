"""What is not offered again by itself: what was just deleted or undone, and what was dismissed.

Deleting back what was typed by hand is neither: whoever types into a suggestion and takes a letter back still wants it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from lsp_server.documents import Edit
from lsp_server.verdict import Reason

_N_DISMISSED = 32  # per document
_CONTEXT_CHARS = 80  # before the cursor, by which a place is known again
_PAIRS = ("()", "[]", "{}", '""', "''", "``")  # that an editor writes for one key, with the cursor between


@dataclass(slots=True)
class Unwanted:
    """One document's."""

    _n_typed: int = 0  # by hand, letter by letter, up to the cursor
    _cursor: int = 0  # after that, or where something was deleted
    _deleted: str = ""
    _dismissed: deque[str] = field(default_factory=lambda: deque(maxlen=_N_DISMISSED))

    def edited(self, edit: Edit | None) -> None:
        """Takes note of an edit; one of many parts is as if the user had gone elsewhere."""
        if edit is None or (edit.removed and edit.inserted):
            self._n_typed, self._deleted = 0, ""
        elif edit.inserted:
            self._insert(edit)
        elif edit.removed:
            self._delete(edit)

    def dismiss(self, prefix: str, text: str) -> None:
        self._dismissed.append(prefix[-_CONTEXT_CHARS:] + text)

    def allow(self, prefix: str, text: str) -> None:
        """Takes back a dismissal: it is on the screen again, because the user asked."""
        for each in [each for each in self._dismissed if (prefix + text).endswith(each)]:
            self._dismissed.remove(each)

    def why(self, prefix: str, offset: int, text: str) -> Reason | None:
        """Tells why a text is not offered at a place; None where it may be."""
        deleted = self._deleted.strip()
        if deleted and offset == self._cursor and _one_begins_with_other(text.strip(), deleted):
            return Reason.JUST_DELETED
        return Reason.DISMISSED if self.is_dismissed(prefix, text) else None

    def is_dismissed(self, prefix: str, text: str) -> bool:
        """Tells whether a text, or what is left of it behind what was typed since, was dismissed at its place."""
        said = prefix + text
        return any(said.endswith(each) for each in self._dismissed)

    def _insert(self, edit: Edit) -> None:
        is_key = len(edit.inserted) == 1 or edit.inserted in _PAIRS or (edit.inserted[0] in "\r\n" and edit.inserted.isspace())
        goes_on = edit.offset == self._cursor and self._n_typed
        n_keys = 1 if edit.inserted in _PAIRS else len(edit.inserted)
        self._n_typed = n_keys + (self._n_typed if goes_on else 0) if is_key else 0
        self._cursor = edit.offset + n_keys
        self._deleted = ""

    def _delete(self, edit: Edit) -> None:
        n_removed = len(edit.removed)
        if n_removed <= self._n_typed and edit.offset + n_removed == self._cursor:
            self._n_typed -= n_removed
        elif self._deleted and edit.offset + n_removed == self._cursor:
            self._deleted = edit.removed + self._deleted
        elif self._deleted and edit.offset == self._cursor:
            self._deleted += edit.removed
        else:
            self._n_typed, self._deleted = 0, edit.removed
        self._cursor = edit.offset


def _one_begins_with_other(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)
