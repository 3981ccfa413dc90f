"""What is sure enough to be shown unasked."""

from __future__ import annotations

import pytest

from lsp_server.confidence import Thresholds, sure_part
from lsp_server.suggestions import Completion
from tests.lsp_server.places import prompt_at

THRESHOLDS = Thresholds(minimum=-2.0, mean=-1.0)


def completion(*tokens: tuple[str, float]) -> Completion:
    text, ends = "", []
    for token, _ in tokens:
        text += token
        ends.append(len(text))
    return Completion("1", prompt_at("x = ┃\n"), text, tuple(logprob for _, logprob in tokens), tuple(ends))


@pytest.mark.parametrize(
    ("tokens", "kept"),
    [
        ([("sum", -0.1), ("(a)", -0.2)], "sum(a)"),
        ([("sum", -0.1), ("(a)", -2.1)], ""),
        ([("sum", -1.5), ("(a)", -1.5)], ""),
        ([("a()", -0.1), ("\n", -0.1), ("b()", -0.2)], "a()\nb()"),
        ([("a()", -0.1), ("\n", -0.1), ("b()", -2.2)], "a()"),
        ([("\n", -0.1), ("  a()", -0.1), ("\n", -0.1), ("  b()", -9.0), ("\n  c()", -0.1)], "\n  a()"),
        ([("\n", -9.0), ("  a()", -0.1)], ""),
        ([], ""),
    ],
)
def test_a_completion_is_cut_before_the_first_line_that_is_not_sure(tokens, kept) -> None:
    assert sure_part(completion(*tokens), THRESHOLDS).completion.text == kept


def test_what_was_not_sure_is_told_in_numbers() -> None:
    detail = sure_part(completion(("a()", -0.1), ("\nb", -3.0)), THRESHOLDS).detail
    assert "-3.00" in detail
    assert "-2.00 allowed" in detail
    assert "1 lines before it were sure" in detail


def test_without_thresholds_or_numbers_everything_is_sure() -> None:
    unsure = completion(("a", -99.0))
    assert sure_part(unsure, None).completion == unsure
    unknown = Completion("1", unsure.prompt, "a")
    assert sure_part(unknown, THRESHOLDS).completion == unknown


def test_only_what_is_left_counts_once_part_was_typed() -> None:
    rest = completion(("sum", -9.0), ("(a)", -0.1)).after(prompt_at("x = sum┃\n"))
    assert rest
    assert sure_part(rest, THRESHOLDS).completion.text == "(a)"
