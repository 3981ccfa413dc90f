"""Text is encoded literally, and ids give the bytes back."""

from __future__ import annotations

import json
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.api import CheckpointError
from engine.model_files import SHIPPED_MODEL
from engine.tokenizer import TextStream, Tokenizer

TOKENIZER = Tokenizer.from_pretrained(SHIPPED_MODEL)

# StarCoder's special tokens, ids 0 to 18
SPECIAL = """<|endoftext|> <fim_prefix> <fim_middle> <fim_suffix> <fim_pad> <filename> <gh_stars> <issue_start> <issue_comment>
<issue_closed> <jupyter_start> <jupyter_text> <jupyter_code> <jupyter_output> <empty_output> <commit_before> <commit_msg>
<commit_after> <reponame>""".split()


def test_special_tokens_stand_in_starcoders_order() -> None:
    vocabulary = json.loads((SHIPPED_MODEL / "tokenizer.json").read_text("utf-8"))["added_tokens"]
    assert [token["content"] for token in sorted(vocabulary, key=lambda token: token["id"])] == SPECIAL


@pytest.mark.parametrize("text", [*SPECIAL, "x = '<fim_prefix>'", "<fim-prefix>"])
def test_a_special_token_typed_in_a_source_is_plain_text(text) -> None:
    ids = TOKENIZER.encode(text)
    assert min(ids) >= len(SPECIAL)
    assert TOKENIZER.decode(ids) == text


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_decoding_gives_back_every_text(text) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_streamed_text_is_whole_code_points_and_loses_none(text) -> None:
    stream = TextStream()
    pieces = [stream.feed(TOKENIZER.token_bytes(token_id)) for token_id in TOKENIZER.encode(text)]
    assert "".join(pieces) == text
    assert "\ufffd" not in "".join(pieces) or "\ufffd" in text


def test_padding_ids_stand_for_nothing() -> None:
    assert TOKENIZER.token_bytes(TOKENIZER.n_vocab + 5) == b""
    assert TOKENIZER.token_bytes(TOKENIZER.special.fim_middle) == b""


def test_a_tokenizer_without_fim_tokens_is_refused_by_name(tmp_path) -> None:
    content = json.loads((SHIPPED_MODEL / "tokenizer.json").read_text("utf-8"))
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] != "<fim_middle>"]
    del content["model"]["vocab"]["<fim_middle>"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: has none of the tokens <fim_middle> <fim-middle>"):
        Tokenizer.from_pretrained(tmp_path)


def test_a_truncated_tokenizer_is_refused_by_name(tmp_path) -> None:
    shutil.copy(SHIPPED_MODEL / "tokenizer.json", tmp_path)
    path = tmp_path / "tokenizer.json"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: cannot be read as a tokenizer"):
        Tokenizer.from_pretrained(tmp_path)
