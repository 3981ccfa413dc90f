"""Which prompt a request becomes: the cheaper order, a middle that stands still, a window that can be ready in time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.api import Counters, Order, Request, Window
from engine.cache_pool import CachePool
from engine.config import GPTBigCodeConfig
from engine.decoder import Decoder
from engine.jobs import Job
from engine.model_files import SHIPPED_MODEL
from engine.planner import MIN_SHORT_TOKENS, Planner, line_start
from engine.tokenizer import Tokenizer
from tests.bench.counting import CountingModel

TOKENIZER = Tokenizer.from_pretrained(SHIPPED_MODEL)
LINES = [f"value_{n} = function_{n}({n}, {n + 1})\n" for n in range(60)]
N_POSITIONS = 2048


@pytest.fixture
def decoder() -> Decoder:
    config = replace(GPTBigCodeConfig.from_pretrained(SHIPPED_MODEL), n_positions=N_POSITIONS)
    model = CountingModel(config, TOKENIZER.special.end_of_text)
    return Decoder(model, TOKENIZER, CachePool(model.new_cache, 1 << 30))


@pytest.fixture
def planner(decoder) -> Planner:
    return Planner(TOKENIZER, decoder.pool, N_POSITIONS)


def at(line: int, typed: str = "", **options: object) -> Request:
    """A request from behind what was typed at the start of a line."""
    prefix, suffix = "".join(LINES[:line]) + typed, "\n" + "".join(LINES[line:])
    return Request(**{"document": "d", "prefix": prefix, "suffix": suffix, **options})


def ask(decoder: Decoder, request: Request) -> Counters:
    *_, last = decoder.complete(Job(request))
    return last.counters


@pytest.mark.parametrize("typed", ["", "x", "  if x:"])
def test_a_middle_begins_at_its_lines_start(typed) -> None:
    assert line_start(f"a\nb\n{typed}") == 4
    assert line_start(typed) == 0


def test_a_cold_document_is_asked_in_spm(decoder) -> None:
    assert ask(decoder, at(20, "x")).order is Order.SPM


def test_typing_after_a_jump_costs_a_token_a_key_and_deleting_too(decoder) -> None:
    decoder.prefetch(Job(at(40)))
    jump = ask(decoder, at(20, "x"))
    n_suffix = len(TOKENIZER.encode(at(20).suffix))
    assert jump.order is Order.PSM
    assert jump.prefilled <= n_suffix + 4
    for typed in ("xy", "xyz", "xyz ", "xyz =", "xyz = ", "xyz = f", "xyz = ", "xyz", "x", "xq"):
        assert ask(decoder, at(20, typed)).prefilled <= 2


def test_going_on_on_the_next_line_keeps_the_middle_where_it_began(decoder) -> None:
    decoder.prefetch(Job(at(40)))
    ask(decoder, at(20, "x"))
    for typed in ("x\n", "x\n    y", "x\n    y\n", "x\n    y\nz"):
        assert ask(decoder, at(20, typed)).prefilled <= 3


def test_what_rests_is_ready_for_a_jump(decoder) -> None:
    ask(decoder, at(40))
    decoder.prefetch(Job(at(40)))
    there = ask(decoder, at(50))
    assert there.prefilled < len(TOKENIZER.encode(at(50).suffix)) + len(TOKENIZER.encode("".join(LINES[40:50]))) + 8
    back = ask(decoder, at(10))
    assert back.prefilled <= len(TOKENIZER.encode(at(10).suffix)) + 4


def test_what_cannot_be_ready_in_time_waits_behind_a_short_window(planner, decoder) -> None:
    request = at(30, "x = ")
    prompt, window = planner.plan(request, tokens_per_ms=1.0, left_ms=512.0)
    assert window is Window.SHORT
    assert MIN_SHORT_TOKENS < len(prompt.ids) <= 256 + 3
    longer, _ = planner.plan(at(30, "x = f"), tokens_per_ms=1.1, left_ms=500.0)  # the rate is measured anew all the time
    assert longer.ids[: len(prompt.ids) - 2] == prompt.ids[:-2]
    decoder.prefetch(Job(request))
    assert planner.plan(request, tokens_per_ms=1.0, left_ms=512.0)[1] is Window.FULL


def test_without_a_deadline_the_window_is_full(planner) -> None:
    assert planner.plan(at(30), tokens_per_ms=1e-6, left_ms=None)[1] is Window.FULL


def test_no_time_left_still_gives_a_prompt(planner) -> None:
    prompt, window = planner.plan(at(30), tokens_per_ms=1.0, left_ms=0.0)
    assert window is Window.SHORT
    assert len(prompt.ids) <= MIN_SHORT_TOKENS + 3
