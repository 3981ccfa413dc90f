"""What typing costs in tokens is a count, not a speed: it is the same on every machine and may be asserted."""

from __future__ import annotations

from pathlib import Path

from tests.bench.typing import BACKENDS, count_tokens

TRACE = Path(__file__).parents[1] / "data" / "rustcode-2400.json.gz"


def test_a_key_costs_its_own_token_whatever_stands_around_it() -> None:
    counts = count_tokens(TRACE)
    assert set(counts) == {"typing_runs", "triggered", "all"}
    for columns in counts.values():
        assert list(columns) == list(BACKENDS)
        assert columns["no_cache"]["reused_share"] == 0
        assert (
            columns["ours"]["prefilled_total"]
            < columns["psm_cache"]["prefilled_total"]
            < columns["no_cache"]["prefilled_total"]
        )
    typing = counts["typing_runs"]["ours"]
    assert typing["prefilled_median"] <= 1
    assert typing["prefilled_p99"] <= 4
    assert typing["reused_share"] >= 0.99
