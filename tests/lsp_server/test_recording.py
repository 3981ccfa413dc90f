"""Recorded sessions: nothing of the user's text in them, unless asked for, and all that a replay needs."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsp_server.documents import DocumentStore
from lsp_server.privacy import is_refused
from lsp_server.recording import Recorder, anonymous, read, shape

SALT = b"salt"


@given(st.text(st.characters() | st.sampled_from("\r\n\t()\u2028\ud83d😀é")))
def test_a_shape_has_the_sizes_and_line_ends_of_its_text(text) -> None:
    made = shape(text)
    for encoding in ("utf-8", "utf-16-le"):
        sizes = [[len(char.encode(encoding, "surrogatepass")) for char in each] for each in (text, made)]
        assert sizes[0] == sizes[1]
    assert [(char in "\r\n\t (){}[]") and char for char in text] == [(char in "\r\n\t (){}[]") and char for char in made]


@given(st.text(), st.text())
def test_what_agrees_with_a_text_agrees_with_its_shape(start, end) -> None:
    assert shape(start + end) == shape(start) + shape(end)


SESSION = {
    "jsonrpc": "2.0",
    "id": 7,
    "method": "textDocument/didOpen",
    "params": {
        "textDocument": {
            "uri": "file:///home/ann/secret/plan.py",
            "languageId": "python",
            "version": 1,
            "text": "on = ann(7)\n",
        },
        "clientInfo": {"name": "Neovim", "version": "0.12"},
        "rootPath": "/home/ann",
        "initializationOptions": {"comments": "on-demand", "max_tokens": 9, "globs": ["ann/*"], "ann smith": 1},
        "workspaceFolders": [{"uri": "file:///home/ann/secret", "name": "secret"}],
        "context": {"triggerKind": 2},
    },
}


def test_names_and_text_are_gone_and_the_rest_is_as_it_was() -> None:
    kept = anonymous(SESSION, SALT)
    assert "ann" not in json.dumps(kept)
    assert "secret" not in json.dumps(kept)
    params = kept["params"]
    assert params["textDocument"]["text"] == "xx = xxx(9)\n"
    assert params["textDocument"]["uri"].endswith(".py")
    assert params["textDocument"]["languageId"] == "python"
    assert params["clientInfo"]["name"] == "Neovim"
    assert params["initializationOptions"]["comments"] == "on-demand"
    assert (kept["id"], kept["method"], params["context"]) == (7, "textDocument/didOpen", {"triggerKind": 2})


def test_a_name_stays_the_same_within_a_session_only() -> None:
    uri = {"uri": "file:///a.py"}
    assert anonymous(uri, SALT) == anonymous(uri, SALT) != anonymous(uri, b"pepper")


@pytest.mark.parametrize(("with_text", "text"), [(True, "secret(1)"), (False, "xxxxxx(9)")])
def test_what_passes_by_is_read_back(tmp_path, with_text, text) -> None:
    file = io.StringIO()
    recorder = Recorder(file, with_text=with_text)
    body = json.dumps({"method": "x", "params": {"text": "secret(1)"}}).encode()
    recorder.received(body)
    recorder.received(b"not json")
    recorder.sent(b"Content-Length: 1\r\n\r\n" + body)
    path = tmp_path / "session.jsonl"
    path.write_text(file.getvalue(), "utf-8")
    assert [(each.is_sent, each.body["params"]["text"]) for each in read(path)] == [(False, text), (True, text)]


@pytest.mark.parametrize("line", ["x", "[]", "{}", '{"at_s": "x", "is_sent": 0, "body": {}}'])
def test_a_file_that_is_no_recording_is_named(tmp_path, line) -> None:
    path = tmp_path / "other.txt"
    path.write_text(line, "utf-8")
    with pytest.raises(ValueError, match=r"other\.txt, line 1: not a recorded message"):
        list(read(path))


@pytest.mark.parametrize(
    ("document", "kept"),
    [
        ({"uri": "file:///p/a.py", "text": "key = 1"}, True),
        ({"uri": "file:///p/.env", "text": "key = 1"}, False),
        ({"uri": "untitled:1", "languageId": "dotenv", "text": "key = 1"}, False),
    ],
)
def test_text_of_a_private_document_is_never_recorded(document, kept) -> None:
    file = io.StringIO()
    store = DocumentStore(is_refused)
    recorder = Recorder(file, with_text=True, is_private=store.is_private)
    recorder.received(json.dumps({"method": "textDocument/didOpen", "params": {"textDocument": document}}).encode())
    assert ("key = 1" in file.getvalue()) is kept
