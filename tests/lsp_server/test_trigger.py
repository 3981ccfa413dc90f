"""Where something is suggested unasked."""

from __future__ import annotations

import pytest

from lsp_server.trigger import Mode, decide
from tests.lsp_server.places import prompt_at


def check(marked: str, expected: Mode, *, invoked: bool = False) -> None:
    assert decide(prompt_at(marked), invoked=invoked) is expected


@pytest.mark.parametrize(
    ("marked", "expected"),
    [
        ("x = ┃\n", Mode.LINE),
        ("x = ┃", Mode.LINE),
        ("print(┃)\n", Mode.LINE),
        ("print('┃');  \r\n", Mode.LINE),
        ("pri┃nt\n", Mode.NONE),
        ("x = ┃y\n", Mode.NONE),
        ("┃if x:\n", Mode.NONE),
    ],
)
def test_automatic_suggestions_stand_before_closers_only(marked, expected) -> None:
    check(marked, expected)


@pytest.mark.parametrize("marked", ["pri┃nt\n", "x = ┃y\n"])
def test_an_invoked_request_is_answered_anywhere(marked) -> None:
    check(marked, Mode.LINE, invoked=True)
