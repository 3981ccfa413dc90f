from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.api import Order, Request
from engine.cache_pool import CachePool
from engine.decoder import Decoder
from engine.encoding import encode_all
from engine.healing import Healing, take_back
from engine.jobs import Job
from engine.model_files import SHIPPED_MODEL
from engine.tokenizer import Tokenizer
from tests.engine.conftest import load

TOKENIZER = Tokenizer.from_pretrained(SHIPPED_MODEL)
TOKENS = [TOKENIZER.token_bytes(idx) for idx in range(TOKENIZER.n_vocab)]
WORDS = st.one_of(st.sampled_from([" return", "calc", "\n        ", "é", "日本", "_", "0", "):"]), st.text(max_size=12))


@pytest.fixture(scope="module")
def decoder(checkpoint) -> Decoder:
    model = load(checkpoint)
    return Decoder(model, Tokenizer.from_pretrained(checkpoint), CachePool(model.transformer.new_cache, 1 << 30))


@pytest.mark.parametrize(
    ("prefix", "middle"),
    [
        ("x)\n        ", "body"),
        ("x)\n\n", "class A"),
        ("def f(", "x"),
        ("x =", " 1"),
        ("x = ", "y"),
        ("\t\t", "y"),
        ("a\n    b", "cd"),
    ],
)
def test_white_space_before_a_word_is_cut_as_text_has_it(prefix, middle) -> None:
    before, healed = take_back(encode_all(prefix, TOKENIZER), TOKENIZER)
    word = TOKENIZER.decode(list(healed))
    assert TOKENIZER.decode(list(before)) + word == prefix
    assert [*before, *TOKENIZER.encode(word + middle)] == TOKENIZER.encode(prefix + middle)


@given(WORDS)
@settings(deadline=None)
def test_the_words_own_token_is_allowed_and_each_that_holds_it_all(word) -> None:
    left, ids = word.encode(), TOKENIZER.encode(word)
    allowed = Healing(tuple(ids), TOKENIZER).allowed()
    if not left:
        assert allowed is None
        return
    assert sorted(allowed) == sorted({ids[0]} | {idx for idx, token in enumerate(TOKENS) if token.startswith(left)})


@pytest.mark.parametrize("typed", ["    re", "    value = it", "    x = [", "    # naïve", "    ", "    日本"])
@pytest.mark.parametrize("order", [Order.SPM, Order.AUTO])
def test_what_is_written_begins_with_the_word_and_the_answer_does_not_hold_it(decoder, typed, order) -> None:
    prefix = "def f(items):\n" + typed
    request = Request(document=f"{typed} {order}", prefix=prefix, suffix="\n    return 1\n", max_tokens=8, order=order)
    chunks = list(decoder.complete(Job(request)))
    document = decoder.pool.document(request.document)
    healed = TOKENIZER.decode(list(document.asked.healed))
    assert healed
    assert prefix.endswith(healed)
    written = b"".join(map(TOKENIZER.token_bytes, document.written))  # without the token that ended the answer
    assert written.startswith(healed.encode()) or healed.encode().startswith(written)
    shown = "".join(chunk.text for chunk in chunks)
    assert (healed + shown).encode().startswith(written.partition(b"\n    return 1\n")[0][: len((healed + shown).encode())])


def test_typing_inside_a_word_computes_no_prompt(decoder) -> None:
    prefilled = []
    for typed in ("c", "ca", "cal", "calc", "calcu"):
        request = Request(document="word", prefix=f"def f(x):\n    return {typed}", suffix="\n", max_tokens=4)
        prefilled.append(list(decoder.complete(Job(request)))[-1].counters.prefilled)
    assert prefilled[0] > 0
    assert prefilled[1:] == [0, 0, 0, 0]


def test_of_a_giant_word_nothing_is_taken_back(decoder) -> None:
    request = Request(document="giant", prefix="x = " + "a" * (200), suffix="\n", max_tokens=2)
    list(decoder.complete(Job(request)))
    assert decoder.pool.document("giant").asked.healed == ()


def test_a_prompt_that_fills_every_position_leaves_room_for_the_word(decoder) -> None:
    word = "é" * (4)
    request = Request(document="full", prefix="x = y\n" * 400 + word, suffix="z = 1\n" * 400, max_tokens=8)
    assert list(decoder.complete(Job(request)))[-1].counters.finish != "error"


def test_alternatives_all_begin_with_the_word(decoder) -> None:
    request = Request(document="n", prefix="def f(x):\n    return ca", suffix="\n", max_tokens=4, n=3)
    choices = {chunk.choice for chunk in decoder.complete(Job(request))}
    assert choices == {0, 1, 2}


def test_a_longer_token_ends_the_constraint() -> None:
    healing = Healing(tuple(TOKENIZER.encode(" ret")), TOKENIZER)
    healing.take(TOKENIZER.encode(" return")[0])
    assert (healing.allowed(), healing.draft(), healing.left) == (None, (), b"")
