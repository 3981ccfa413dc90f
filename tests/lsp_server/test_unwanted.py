"""What is not offered back: after a deletion, an undo, a dismissal."""

from __future__ import annotations

import pytest

from lsp_server.documents import Edit
from lsp_server.unwanted import Unwanted
from lsp_server.verdict import Reason

PREFIX = "total = "
AT = len(PREFIX)


def typed(text: str, offset: int = AT) -> list[Edit]:
    return [Edit(offset + idx, "", char) for idx, char in enumerate(text)]


def erased(text: str, offset: int = AT) -> list[Edit]:
    """Backspaces, one by one, over a text that begins at the offset."""
    return [Edit(offset + idx, text[idx], "") for idx in range(len(text) - 1, -1, -1)]


ACCEPTED = Edit(AT, "", "sum(items)")
UNDONE = Edit(AT, "sum(items)", "")


@pytest.mark.parametrize(
    ("edits", "text", "reason"),
    [
        ([ACCEPTED, UNDONE], "sum(items)", Reason.JUST_DELETED),
        ([ACCEPTED, UNDONE], "sum(items) + 1", Reason.JUST_DELETED),
        ([ACCEPTED, UNDONE], "sum", Reason.JUST_DELETED),
        ([ACCEPTED, UNDONE], "len(items)", None),
        ([UNDONE], " sum(items)", Reason.JUST_DELETED),
        ([ACCEPTED, *erased("sum(items)")], "sum(items)", Reason.JUST_DELETED),
        ([ACCEPTED, Edit(AT + 4, "items)", "")], "items)", Reason.JUST_DELETED),
        ([Edit(AT, "sum", ""), Edit(AT, "(items)", "")], "sum(items)", Reason.JUST_DELETED),
        ([*typed("su"), *erased("su")], "sum(items)", None),
        ([*typed("su"), *erased("u", AT + 1)], "um(items)", None),
        ([*typed("su"), Edit(AT - 3, " = su", "")], "= sum(items)", Reason.JUST_DELETED),
        ([ACCEPTED, UNDONE, *typed("l")], "sum(items)", None),
        ([ACCEPTED, UNDONE, None], "sum(items)", None),
        ([ACCEPTED, UNDONE, Edit(AT, "a", "b")], "sum(items)", None),
        ([Edit(AT, "  ", "")], "sum(items)", None),
        ([Edit(AT, "", "()"), Edit(AT, "()", "")], "(items)", None),
        ([Edit(AT, "", "\n    "), *typed("a", AT + 5), Edit(AT + 5, "a", "")], "a()", None),
    ],
)
def test_what_was_just_deleted_is_not_offered_back(edits, text, reason) -> None:
    unwanted = Unwanted()
    for edit in edits:
        unwanted.edited(edit)
    deleted = [edit for edit in edits if edit and edit.removed]
    offset = deleted[-1].offset if deleted and edits[-1] in deleted else AT
    assert unwanted.why(PREFIX, offset, text) is reason


def test_what_was_deleted_elsewhere_may_be_offered_here() -> None:
    unwanted = Unwanted()
    unwanted.edited(UNDONE)
    assert unwanted.why(PREFIX, AT + 1, "sum(items)") is None


def test_what_was_dismissed_is_not_offered_at_its_place_nor_its_rest_behind_what_is_typed() -> None:
    unwanted = Unwanted()
    unwanted.dismiss(PREFIX, "sum(items)")
    assert unwanted.why(PREFIX, AT, "sum(items)") is Reason.DISMISSED
    assert unwanted.why(PREFIX + "sum", AT + 3, "(items)") is Reason.DISMISSED
    assert unwanted.why(PREFIX, AT, "len(items)") is None
    assert unwanted.why("other = ", AT, "sum(items)") is None
    unwanted.allow(PREFIX + "s", "um(items)")
    assert unwanted.why(PREFIX, AT, "sum(items)") is None
