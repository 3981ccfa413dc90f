"""The request lines, and where the log goes."""

from __future__ import annotations

import logging

import pytest

from engine.api import Counters, Finish
from lsp_server.tracing import Tracer, configure

COUNTERS = Counters(reused=812, prefilled=2, decoded=11, drafted=8, first_ms=9.4, total_ms=34.2, finish=Finish.NEWLINE)


def test_an_answer_leaves_one_line_without_its_text(caplog) -> None:
    caplog.set_level(logging.INFO)
    Tracer().answered(41, COUNTERS, "secret")
    assert caplog.messages == [
        "suggest v=41 reused=812 prefilled=2 decoded=11 drafted=8 queue_ms=0 first_ms=9 total_ms=34 finish=newline"
        " chars=6 id=None"
    ]


def test_the_text_is_logged_where_the_user_asked_for_it(caplog) -> None:
    caplog.set_level(logging.INFO)
    Tracer(log_text=True).answered(41, COUNTERS, "not secret")
    assert caplog.messages[0].endswith("chars=10 id=None text='not secret'")


def test_pygls_is_silent_for_it_logs_whole_messages(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])
    configure("debug", tmp_path / "log")
    logging.getLogger("pygls.protocol.json_rpc").error("text of a document")
    logging.getLogger("lsp_server").error("ours")
    logging.getLogger("pygls").setLevel(logging.NOTSET)
    content = (tmp_path / "log").read_text()
    assert "ours" in content
    assert "text of a document" not in content


@pytest.fixture(autouse=True)
def _root_level() -> object:
    level = logging.root.level
    yield
    logging.root.setLevel(level)
