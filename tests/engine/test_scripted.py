"""The engine without a model: what it writes, when it stops, and what is wrong with a script."""

from __future__ import annotations

import json
from contextlib import aclosing

import pytest

from engine.api import CheckpointError, Chunk, EngineError, Finish, Request, State, Stop
from engine.scripted import Rule, ScriptedEngine

TEXT = "sum(items) + 1\r\nprint(total)\n"
REQUEST = Request(document="d", prefix="total = ", suffix="\n", stop=Stop.NONE)


def ask(prefix: str = "total = ", **limits) -> Request:
    return Request(document="d", prefix=prefix, suffix="\n", **{"stop": Stop.NONE, **limits})


async def collect(engine: ScriptedEngine, request: Request) -> list[Chunk]:
    return [chunk async for chunk in engine.complete(request)]


@pytest.mark.parametrize(
    ("request_", "text", "finish"),
    [
        (ask(), TEXT, Finish.END_OF_TEXT),
        (ask(stop=Stop.NEWLINE), "sum(items) + 1", Finish.NEWLINE),
        (ask(max_tokens=2), "sum(", Finish.MAX_TOKENS),
        (ask(max_tokens=2, n=3), "sum(" * 3, Finish.MAX_TOKENS),
        (ask(deadline_ms=0.0), "", Finish.DEADLINE),
        (ask("x = 1; total = "), TEXT, Finish.END_OF_TEXT),
        (ask("other"), "", Finish.END_OF_TEXT),
    ],
)
async def test_the_first_rule_that_fits_is_written_up_to_the_limits(request_, text, finish) -> None:
    engine = ScriptedEngine([Rule(prefix_ends="total = ", text=TEXT), Rule(prefix_ends="= ", text="never")])
    chunks = await collect(engine, request_)
    assert "".join(chunk.text for chunk in chunks) == text
    assert chunks[-1].counters.finish is finish
    assert chunks[-1].counters.decoded == len(chunks) - 1 == sum(len(chunk.logprobs) for chunk in chunks)
    assert {chunk.choice for chunk in chunks[:-1]} <= set(range(request_.n))
    assert (await engine.status()).last.finish is finish


async def test_each_alternative_bears_its_number() -> None:
    engine = ScriptedEngine([Rule(prefix_ends="", text="a b")])
    chunks = await collect(engine, ask(n=2))
    assert [(chunk.choice, chunk.text) for chunk in chunks[:-1]] == [(0, "a"), (0, " b"), (1, "a"), (1, " b")]


async def test_alternatives_take_the_other_texts_of_their_rule() -> None:
    engine = ScriptedEngine([Rule(prefix_ends="", text="a", others=("b",))])
    chunks = await collect(engine, ask(n=3))
    assert [chunk.text for chunk in chunks[:-1]] == ["a", "b", "b"]
    assert chunks[0].logprobs > chunks[1].logprobs


async def test_a_closed_stream_is_told_as_cancelled() -> None:
    engine = ScriptedEngine([Rule(prefix_ends="", text="a b c")])
    async with aclosing(engine.complete(REQUEST)) as stream:
        await anext(stream)
        assert (await engine.status()).state is State.BUSY
    status = await engine.status()
    assert (status.state, status.last.finish, status.last.decoded) == (State.READY, Finish.CANCELLED, 1)


async def test_an_error_comes_after_the_text_and_is_told() -> None:
    engine = ScriptedEngine([Rule(prefix_ends="", text="half", error="CheckpointError")])
    stream = engine.complete(REQUEST)
    assert (await anext(stream)).text == "half"
    with pytest.raises(CheckpointError, match="the script says"):
        await anext(stream)
    assert (await engine.status()).last.finish is Finish.ERROR


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "can't be read"),
        ("{}", "must be a JSON list of rules, got dict"),
        ("[1]", "rule 0: must be an object"),
        (json.dumps([{"prefix_ends": ""}, {"text": "x"}]), "rule 1: must be an object"),
        (json.dumps([{"prefix_ends": "", "txt": "x"}]), "unknown field 'txt', allowed are prefix_ends, text, error,"),
        (json.dumps([{"prefix_ends": "", "others": ["x", 1]}]), "others must be a list of texts, got ['x', 1]"),
        (json.dumps([{"prefix_ends": "", "token_ms": "1"}]), "token_ms must be int or float, got '1'"),
        (json.dumps([{"prefix_ends": "", "error": "KeyError"}]), "error must be one of EngineError"),
    ],
)
def test_what_is_wrong_with_a_script_is_said(tmp_path, content, complaint) -> None:
    path = tmp_path / "script.json"
    path.write_text(content)
    with pytest.raises(EngineError) as error:
        ScriptedEngine.from_file(str(path))
    assert complaint in str(error.value)
    assert str(path) in str(error.value)
