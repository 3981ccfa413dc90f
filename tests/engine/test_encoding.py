"""An edited text encoded at the cost of the edit has the ids of the whole text encoded anew."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.encoding import EncodedText, encode, encode_all
from engine.matching import n_common, n_common_end
from engine.model_files import SHIPPED_MODEL
from engine.tokenizer import Tokenizer

TOKENIZER = Tokenizer.from_pretrained(SHIPPED_MODEL)
PIECES = st.sampled_from(
    [
        "x",
        "foo",
        " ",
        "  ",
        "\n",
        "\n\n    ",
        "\t",
        "'",
        "'re",
        "ve",
        "12",
        "é",
        "🙂",
        "\r\n",
        "(",
        "):",
        "<fim_prefix>",
        "\u2028",
        "一",
    ]
)
TEXTS = st.lists(PIECES, max_size=60).map("".join)
RUST = """fn main() {
\tlet x: Vec<&'a str> = vec!["é🙂", "b"];
\tfor (i, s) in x.iter().enumerate() {
\t\tprintln!("{i}{s}");
\t}
}
"""
TYPESCRIPT = "export const f = async <T,>(x: T[]): Promise<T> => {\r\n  return x?.[0] ?? `it's ${x}`;\r\n};\r\n"
PROSE = "It's what they've said, isn't it?  We'll see – in 2024 …\n\n  * one\n  * two\n"
SOURCES = {"python": Path(__file__).read_text("utf-8"), "rust": RUST * 9, "typescript": TYPESCRIPT * 9, "prose": PROSE * 9}


def count_encoded(monkeypatch) -> list[int]:
    """Characters that pass through the tokenizer, call by call."""
    sizes: list[int] = []
    original = Tokenizer.encode_words

    def counted(self: Tokenizer, text: str):
        sizes.append(len(text))
        return original(self, text)

    monkeypatch.setattr(Tokenizer, "encode_words", counted)
    return sizes


@given(TEXTS, TEXTS, TEXTS, TEXTS)
@example("a", " ", "", "x")
@example("it'", "", "r", "e")
@example("x  ", "", "", "y")
def test_replacing_any_part_gives_the_ids_of_the_whole(head, old, new, tail) -> None:
    before = encode_all(head + old + tail, TOKENIZER)
    after = encode(head + new + tail, TOKENIZER, before)
    assert after == encode_all(head + new + tail, TOKENIZER)
    assert after.ids == tuple(TOKENIZER.encode(head + new + tail))


@pytest.mark.parametrize("language", SOURCES)
def test_a_session_of_edits_gives_the_ids_of_the_whole(language) -> None:
    rng, text = random.Random(language), SOURCES[language]
    encoded = encode(text, TOKENIZER)
    for _ in range(300):
        start = rng.randrange(len(text) + 1)
        n_deleted = rng.choice([0, 0, 0, 1, 1, 5, 200])
        source = rng.choice(list(SOURCES.values()))
        at = rng.randrange(len(source))
        text = text[:start] + source[at : at + rng.choice([1, 1, 1, 3, 80])] + text[start + n_deleted :]
        encoded = encode(text, TOKENIZER, encoded)
        assert encoded == encode_all(text, TOKENIZER)


@pytest.mark.parametrize("at", [0.0, 0.5, 1.0])
def test_a_key_re_encodes_a_few_words_not_the_text(at, monkeypatch) -> None:
    text = SOURCES["python"] * 20
    before = encode(text, TOKENIZER)
    sizes = count_encoded(monkeypatch)
    start = int(len(text) * at)
    encode(text[:start] + "x" + text[start:], TOKENIZER, before)
    assert sum(sizes) < 200


def test_an_empty_text_has_no_words() -> None:
    assert encode("", TOKENIZER) == EncodedText()


@given(st.text("ab", max_size=9), st.text("ab", max_size=9), st.integers(0, 9))
def test_common_ends_are_what_a_loop_finds(first, second, limit) -> None:
    agree = [a == b for a, b in zip(first, second, strict=False)]
    assert n_common(first, second) == (agree.index(False) if False in agree else len(agree))
    ends = [n for n in range(min(len(first), len(second), limit) + 1) if first.endswith(second[len(second) - n :])]
    assert n_common_end(first, second, limit) == max(ends)
