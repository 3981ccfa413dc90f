"""How long is waited for the typing to rest: by the typing and the model, or as the user says."""

from __future__ import annotations

import pytest

from lsp_server.debounce import Rhythm


def rhythm(gap_s: float, answer_s: float) -> Rhythm:
    learned = Rhythm()
    for n in range(60):
        learned.key(n * gap_s)
        learned.answer(answer_s)
    return learned


@pytest.mark.parametrize(
    ("gap_s", "answer_s", "lowest", "highest"),
    [
        (0.2, 0.0, 0.0, 0.0),
        (0.2, 0.08, 0.0, 0.0),  # faster than the typing
        (0.2, 0.2, 0.05, 0.2),
        (0.1, 1.0, 0.14, 0.16),  # only a pause leaves time
        (0.4, 5.0, 0.3, 0.3),
        (3.0, 0.15, 0.0, 0.1),  # no typing: the gap stays what it was
    ],
)
def test_the_wait_grows_with_what_the_model_takes_of_a_gap(gap_s, answer_s, lowest, highest) -> None:
    assert lowest - 1e-9 <= rhythm(gap_s, answer_s).wait_s <= highest + 1e-9


def test_another_model_is_learned_anew() -> None:
    learned = rhythm(0.1, 1.0)
    for _ in range(40):
        learned.answer(0.01)
    assert learned.wait_s == 0.0
