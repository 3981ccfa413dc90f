"""Anything in any order: documents stay as a model implementation has them, and each request is answered once.

`make fuzz` runs 100,000 messages and 10,000 cancels; the suite runs fewer. What is logged meanwhile is not kept.
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.lsp_server.conversation import Conversation
from tests.lsp_server.model_text import ModelText
from tests.lsp_server.wire import write_script

N_MESSAGES = int(os.environ.get("MIDFILL_FUZZ", "1500"))
N_CANCELS = N_MESSAGES // 10
N_STEPS = 100

URIS = ["file:///a.py", "file:///b%20c.js", "untitled:Untitled-1", "file:///d/.env"]
TEXTS = st.text(
    st.sampled_from("ab =().\n\r\t\u2028\x0c\x85é😀𝄞\ud83d\ude00") | st.characters(exclude_categories=()), max_size=12
)
CODE = st.sampled_from(["return ", "x = slow ", "if x:\n", "f(", "\r\n", "broken ", "    "]) | TEXTS
NUMBERS = st.integers(0, 6) | st.sampled_from([40, 2**31 - 1])
POSITIONS = st.tuples(NUMBERS, NUMBERS)
CHANGES = st.lists(st.tuples(POSITIONS, POSITIONS, CODE) | st.tuples(st.none(), st.none(), CODE), min_size=1, max_size=3)
SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "enabled": st.booleans(),
        "deadline_ms": st.sampled_from([20, 1000, -1]),
        "debounce_ms": st.sampled_from([None, 0, 200]),
        "compute_ahead": st.booleans(),
        "engine": st.just("resident"),
    },
)
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 9) | st.floats(allow_nan=False) | st.sampled_from(["", "2.0", *URIS, "\ud83d"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["textDocument", "uri", "position", "context", "contentChanges", "id"]), inner)
    ),
    max_leaves=6,
)
METHODS = [
    *("textDocument/inlineCompletion", "textDocument/completion", "textDocument/didOpen", "textDocument/didClose"),
    *("midfill/status", "midfill/stats", "midfill/didShow", "midfill/didPartiallyAccept", "midfill/nothing"),
    *("workspace/executeCommand", "workspace/didChangeConfiguration", "notebookDocument/didChange", "$/cancelRequest"),
]
REPORTS = ["didShow", "didDismiss", "didPartiallyAccept"]
GARBAGE = st.sampled_from(
    [b"hello\r\n\r\n", b"\r\n\r\n", b"Content-Length: x\r\n\r\n", b'Content-Length: 2\r\n\r\n{"', b"\x00" * 9]
)


def params_at(uri: str, position: tuple[int, int], kind: int) -> dict[str, Any]:
    place = {"line": position[0], "character": position[1]}
    return {"textDocument": {"uri": uri}, "position": place, "context": {"triggerKind": kind}}


class Session(RuleBasedStateMachine):
    """One server, its documents, and the model's."""

    script = ""
    n_sent = 0

    @initialize()
    def start(self) -> None:
        self.server = Conversation(self.script)
        self.models: dict[str, ModelText] = {}
        self.version = 1
        self.suggestion_ids: list[str] = []

    def send(self, method: str, params: Any) -> None:
        type(self).n_sent += 1
        self.server.notify(method, params)

    @rule(uri=st.sampled_from(URIS), text=CODE)
    def open(self, uri: str, text: str) -> None:
        item = {"uri": uri, "languageId": "python", "version": self.version, "text": text}
        self.send("textDocument/didOpen", {"textDocument": item})
        self.models[uri] = ModelText(text)

    @rule(uri=st.sampled_from(URIS), changes=CHANGES, step=st.sampled_from([1, 1, 1, 0, -3]))
    def change(self, uri: str, changes: list[Any], step: int) -> None:
        self.version += step
        written = []
        for start, end, text in changes:
            if start is None:
                written.append({"text": text})
                continue
            at = {
                "start": dict(zip(("line", "character"), start, strict=True)),
                "end": dict(zip(("line", "character"), end, strict=True)),
            }
            written.append({"range": at, "text": text})
        document = {"uri": uri, "version": self.version}
        self.send("textDocument/didChange", {"textDocument": document, "contentChanges": written})
        if uri not in self.models and changes[-1][0] is None:
            self.models[uri] = ModelText(changes[-1][2])
        elif uri in self.models:
            for start, end, text in changes:
                if start is None:
                    self.models[uri] = ModelText(text)
                else:
                    self.models[uri].replace(start, end, text)

    @rule(uri=st.sampled_from(URIS), what=st.sampled_from([{"range": 1}, {"text": None}, 7]))
    def change_unreadably(self, uri: str, what: Any) -> None:
        self.send("textDocument/didChange", {"textDocument": {"uri": uri, "version": 9}, "contentChanges": [what]})
        self.models.pop(uri, None)

    @rule(uri=st.sampled_from(URIS))
    def close(self, uri: str) -> None:
        self.send("textDocument/didClose", {"textDocument": {"uri": uri}})
        self.models.pop(uri, None)

    @rule(uri=st.sampled_from(URIS), position=POSITIONS, kind=st.integers(0, 2))
    def ask(self, uri: str, position: tuple[int, int], kind: int) -> None:
        type(self).n_sent += 1
        self.server.request("textDocument/inlineCompletion", params_at(uri, position, kind))

    @rule(pick=st.randoms(use_true_random=False))
    def cancel(self, pick: random.Random) -> None:
        self.send("$/cancelRequest", {"id": pick.choice(self.server.asked[-8:])})

    @rule(
        pick=st.randoms(use_true_random=False), how=st.sampled_from(["didShow", "didDismiss", "didPartiallyAccept", "accept"])
    )
    def report(self, pick: random.Random, how: str) -> None:
        params = {"id": str(pick.randint(1, 9)), "acceptedLength": pick.randint(0, 3)}
        if how == "accept":
            type(self).n_sent += 1
            self.server.request("workspace/executeCommand", {"command": "midfill.didAccept", "arguments": [params]})
        else:
            self.send(f"midfill/{how}", params)

    @rule(values=SETTINGS)
    def configure(self, values: dict[str, Any]) -> None:
        self.send("workspace/didChangeConfiguration", {"settings": {"midfill": values}})

    @rule(method=st.sampled_from(METHODS), params=JUNK)
    def ask_junk(self, method: str, params: Any) -> None:
        type(self).n_sent += 1
        self.server.request(method, params)

    @rule(message=JUNK)
    def send_junk(self, message: Any) -> None:
        type(self).n_sent += 1
        self.server.send(message)

    @rule(data=GARBAGE | st.binary(max_size=30).filter(lambda data: b"ontent" not in data.lower()))
    def break_frames(self, data: bytes) -> None:
        self.server.feed(data)
        self.send("$/may/be/lost", {})

    @rule(seconds=st.sampled_from([0.0, 0.03, 0.2, 2.0]))
    def wait(self, seconds: float) -> None:
        self.server.wait(seconds)

    @invariant()
    def documents_are_the_model_s(self) -> None:
        for uri in URIS:
            model = self.models.get(uri)
            wanted = None if model is None else "" if uri.endswith(".env") else str(model)
            assert self.server.text(uri) == wanted

    def teardown(self) -> None:
        if hasattr(self, "server"):
            self.server.end()


RULES = (
    {"prefix_ends": "slow ", "text": "one two three four five six\n", "token_ms": 40},
    {"prefix_ends": "broken ", "text": "half", "error": "EngineError"},
    {"prefix_ends": ":\n", "text": "    a = 1\n    b = 2\n\n\nc = 3\n", "token_ms": 5},
    {"prefix_ends": "", "text": "a + b\n", "token_ms": 1},
)


@pytest.fixture(autouse=True)
def _silence() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_whatever_comes_documents_stay_true_and_each_request_is_answered_once(tmp_path) -> None:
    Session.script, Session.n_sent = write_script(tmp_path, *RULES), 0
    n_examples = max(5, min(100, N_MESSAGES // N_STEPS))
    options = settings(
        max_examples=n_examples,
        stateful_step_count=N_STEPS,
        deadline=None,
        database=None,
        phases=[Phase.generate],  # shrinking hundreds of messages takes hours; the steps are printed
        suppress_health_check=list(HealthCheck),
    )
    while Session.n_sent < N_MESSAGES:
        run_state_machine_as_test(Session, settings=options)


def test_a_cancel_at_any_point_is_answered_once_and_leaves_the_engine_free(tmp_path) -> None:
    rng = random.Random(0)
    server = Conversation(write_script(tmp_path, *RULES), debounce_ms=10)
    for uri in URIS[:3]:
        item = {"uri": uri, "languageId": "python", "version": 1, "text": "x = slow \nreturn \n"}
        server.notify("textDocument/didOpen", {"textDocument": item})
    n_cancelled = 0
    for n in range(N_CANCELS):
        uri = rng.choice(URIS[:3])
        if rng.random() < 0.3:
            at = {"line": 1, "character": 0}
            edit = {"range": {"start": at, "end": at}, "text": rng.choice(["y", ""])}
            server.notify("textDocument/didChange", {"textDocument": {"uri": uri, "version": n}, "contentChanges": [edit]})
        line, character = rng.choice([(0, 9), (1, 7), (2, 0)])
        asked = server.request("textDocument/inlineCompletion", params_at(uri, (line, character), rng.choice([1, 2])))
        server.wait(rng.choice([0, 0.001, 0.011, 0.05, 0.3]))
        for _ in range(rng.choice([1, 1, 2])):
            server.notify("$/cancelRequest", {"id": asked})
        server.wait(0.001)
        [reply] = server.replies[asked]  # none is lost, and at once
        n_cancelled += "error" in reply
        assert ("result" in reply) != ("error" in reply)
    assert server.request("midfill/status", {})
    assert n_cancelled > N_CANCELS // 4
    server.end()
