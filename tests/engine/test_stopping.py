"""A completion ends at a newline, or where it begins to repeat the suffix, judged on text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.api import Finish, Stop
from engine.stopping import StopRule

# stop, suffix, generated text, text that is shown, why it ended
CASES = [
    (Stop.NEWLINE, "\n", "return x\nand more", "return x", Finish.NEWLINE),
    (Stop.NEWLINE, "\n", "return x", "return x", None),
    (Stop.NEWLINE, "", "\n", "", Finish.NEWLINE),
    (Stop.NONE, "\n    return total\n", "    total += x\n    return total\nprint", "    total += x", Finish.SUFFIX),
    (Stop.NONE, "\n    return total\n", "    total += x\n    return totals\n", "    total += x\n    return totals\n", None),
    (Stop.NONE, "\n\n\nprint(f(1))\n", "a = 1\n\nprint(f(1))\n", "a = 1\n", Finish.SUFFIX),
    (Stop.NEWLINE, ", key=len)\n", "items, key=len)", "items", Finish.SUFFIX),
    (Stop.NEWLINE, " )", "items)", "items)", None),  # a single closer repeats by chance
    (Stop.NONE, "\n\n \n", "a\nb\n", "a\nb\n", None),  # nothing below to repeat
    (Stop.NEWLINE, "\nx = 1\n", "x = 1\nx = 1\n", "x = 1", Finish.NEWLINE),
]


@pytest.mark.parametrize(("stop", "suffix", "generated", "shown", "finish"), CASES)
@pytest.mark.parametrize("n_chars", [1, 3, 1000])
def test_text_ends_where_it_should_however_it_is_streamed(stop, suffix, generated, shown, finish, n_chars) -> None:
    rule, text, found = StopRule(stop, suffix), "", None
    for start in range(0, len(generated), n_chars):
        piece, found = rule.feed(generated[start : start + n_chars])
        text += piece
        if found is not None:
            break
    assert (text + rule.flush(), found) == (shown, finish)


@given(st.text("ab\n "), st.text("ab\n "), st.integers(1, 4))
def test_nothing_is_lost_or_invented(suffix, generated, n_chars) -> None:
    rule, text = StopRule(Stop.NONE, suffix), ""
    for start in range(0, len(generated), n_chars):
        piece, finish = rule.feed(generated[start : start + n_chars])
        text += piece
        if finish is not None:
            assert generated.startswith(text)
            return
    assert text + rule.flush() == generated
