from __future__ import annotations

from engine.allowance import Allowance
from engine.api import Request
from engine.cache_pool import CachePool
from engine.decoder import Decoder
from engine.jobs import Job
from engine.tokenizer import Tokenizer
from tests.engine.conftest import load


def test_it_fills_up_with_time_and_never_past_a_minutes_worth() -> None:
    now_s = 0.0
    allowance = Allowance(600, lambda: now_s)
    assert allowance.take(600)
    assert not allowance.take(1)
    now_s = 6.0
    assert [allowance.take(60), allowance.take(1)] == [True, False]
    now_s = 1e6
    assert [allowance.take(601), allowance.take(600)] == [False, True]


def test_without_a_limit_everything_is_allowed() -> None:
    assert Allowance(None).take(1 << 40)


def test_background_work_stops_at_the_limit_and_requests_do_not(checkpoint) -> None:
    model, now_s = load(checkpoint), 0.0
    tokenizer = Tokenizer.from_pretrained(checkpoint)
    decoder = Decoder(model, tokenizer, CachePool(model.transformer.new_cache, 1 << 30), background=Allowance(0, lambda: now_s))
    request = Request(document="d", prefix="x = 1\n" * 20, suffix="y = 2\n", max_tokens=4)
    decoder.prefetch(Job(request))
    assert decoder.pool.document("d").n_background == 0
    assert list(decoder.complete(Job(request, emit=lambda chunk: None)))[-1].counters.prefilled > 0
