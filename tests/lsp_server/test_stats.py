"""The local counters: what is counted, once, and kept in a file that several servers share."""

from __future__ import annotations

import json
import multiprocessing
from types import SimpleNamespace

import pytest

from lsp_server.stats import Stats, n_kept
from lsp_server.text import Text

ANSWER = SimpleNamespace(reused=10, prefilled=2, decoded=5, wasted=1, finish="newline")
FROM_MEMORY = SimpleNamespace(reused=0, prefilled=0, decoded=0, wasted=0, finish="shown")


def test_answers_add_up() -> None:
    stats = Stats()
    for counters in (ANSWER, ANSWER, FROM_MEMORY):
        stats.answered(counters)
    for counters in (ANSWER, ANSWER):
        stats.written(counters)
    summary = stats.summary()
    assert (summary["requests"], summary["from_memory"], summary["tokens_reused"], summary["tokens_wasted"]) == (3, 1, 20, 2)


def test_a_suggestion_that_is_typed_through_counts_once() -> None:
    stats = Stats()
    for suggestion_id, n_chars in (("1", 10), ("1", 9), ("2", 4)):
        stats.offered(suggestion_id, n_chars)
    assert (stats.summary()["offered"], stats.summary()["chars_offered"]) == (2, 14)


@pytest.mark.parametrize(("share", "lowest", "highest"), [("p50", 10, 12.5), ("p90", 10, 12.5), ("p99", 800, 1000)])
def test_percentiles_are_true_to_a_quarter(share, lowest, highest) -> None:
    stats = Stats()
    for ms in [10.0] * 95 + [800.0] * 5:
        stats.took(ms)
    assert lowest <= stats.summary()["latency_ms"][share] <= highest


def test_nothing_counted_is_no_latency() -> None:
    assert Stats().summary()["latency_ms"] == {"p50": None, "p90": None, "p99": None}


def add_one(path) -> None:
    stats = Stats(path)
    for _ in range(20):
        stats.count("accepted")
        stats.took(1.0)
        stats.save()


def test_servers_that_end_together_all_count(tmp_path) -> None:
    path = tmp_path / "state" / "stats.json"
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        pool.map(add_one, [path] * 3)
    assert Stats(path).summary()["accepted"] == 60
    assert [each.name for each in path.parent.iterdir() if each.suffix not in (".json", ".lock")] == []


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"since": 1}', '{"since": "x", "counts": {"a": "b"}, "latencies": []}'])
def test_a_file_that_is_not_ours_starts_anew(tmp_path, content) -> None:
    path = tmp_path / "stats.json"
    path.write_text(content)
    stats = Stats(path)
    stats.count("accepted")
    stats.save()
    assert json.loads(path.read_text())["counts"] == {"accepted": 1}


def test_a_folder_that_cannot_be_written_costs_the_numbers_only(tmp_path, caplog) -> None:
    (tmp_path / "file").write_text("")
    stats = Stats(tmp_path / "file" / "stats.json")
    stats.count("accepted")
    stats.save()
    assert "can't be kept" in caplog.text


def test_the_page_for_a_person_has_every_number_and_the_shares() -> None:
    stats = Stats()
    stats.count("offered", 4)
    stats.count("accepted")
    stats.kept(9, 12)
    rows = dict(stats.rows())
    assert (rows["offered"], rows["share_accepted"], rows["share_kept"], rows["share_reused"]) == (4, "25.0%", "75.0%", "-")


BEFORE, ACCEPTED = "def total(items):\n    return ", "sum(item.price for item in items)"
KEPT = [
    (BEFORE + ACCEPTED + "\n", len(ACCEPTED)),
    ("import os\n\n\n" + BEFORE + ACCEPTED + "\n", len(ACCEPTED)),
    (BEFORE + "sum(item.cost for item in items)\n", len(ACCEPTED) - 4),
    (BEFORE + "\n", 0),
    ("", 0),
    ("import os\n" + ACCEPTED, 0),
]


@pytest.mark.parametrize(("now", "n_wanted"), KEPT)
def test_what_is_kept_of_a_suggestion_is_looked_for_where_it_was_put(now, n_wanted) -> None:
    n = n_kept(Text.of(now), len(BEFORE), BEFORE, ACCEPTED)
    assert abs(n - n_wanted) <= (2 if n_wanted else 0) or now == "import os\n" + ACCEPTED


def test_words_taken_one_by_one_are_each_counted_once_whichever_text_the_client_counts_in() -> None:
    stats = Stats()
    for n_chars, n_taken in ((20, 5), (20, 9)):  # in the first text
        stats.taken_in_part("1", n_chars, n_taken)
    for n_chars, n_taken in ((20, 5), (15, 4)):  # in the rest
        stats.taken_in_part("2", n_chars, n_taken)
    totals = stats.summary()
    assert (totals["partially_accepted"], totals["chars_accepted_in_part"]) == (4, 18)
