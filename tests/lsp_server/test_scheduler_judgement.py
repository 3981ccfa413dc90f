"""What the scheduler keeps back: what the model is not sure of, what was deleted or dismissed, and what comes too early."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from engine.api import Finish, Gate, Status
from engine.scripted import Rule, ScriptedEngine
from lsp_server.documents import Edit
from lsp_server.scheduler import Scheduler
from lsp_server.tracing import Tracer
from lsp_server.verdict import Reason
from tests.lsp_server.clock import run
from tests.lsp_server.test_scheduler import SETTINGS, Editor

URI = "file:///d.py"
RULES = [
    Rule(prefix_ends="unsure = ", text="what?\n", logprob=-2.0),
    Rule(prefix_ends="f() {", text="\n  a();\n  b();\n  c(?);\n}\n", logprob=-1.5),
    Rule(prefix_ends="slow = ", text="one two\n", token_ms=100),
    Rule(prefix_ends="total = ", text="sum(items)\n"),
]


class GatedEngine(ScriptedEngine):
    """A model that has a gate."""

    async def status(self) -> Status:
        return replace(await super().status(), gate=Gate(min_logprob=-2.0, mean_logprob=-2.0))


def play(scenario, settings=SETTINGS) -> None:
    async def whole() -> None:
        engine = GatedEngine(RULES)
        scheduler = Scheduler(lambda: engine, Tracer())
        try:
            await scenario(Editor(scheduler, engine, settings))
        finally:
            await scheduler.aclose()

    run(whole())


def reason_in(editor: Editor) -> Reason:
    return editor.scheduler.verdicts[URI].reason


def test_what_the_model_is_not_sure_of_is_shown_on_demand_only() -> None:
    async def scenario(editor: Editor) -> None:
        assert await editor.ask("unsure = ┃\n") is None
        assert reason_in(editor) is Reason.LOW_CONFIDENCE
        assert "-3.00" in editor.scheduler.verdicts[URI].detail
        assert await editor.ask("unsure = ┃\n", invoked=True) == "what?"

    play(scenario)


@pytest.mark.parametrize(("changes", "shown"), [({"gate": False}, "what?"), ({"gate_min_logprob": -4.0}, None)])
def test_the_user_may_do_without_the_gate_or_set_another(changes, shown) -> None:
    async def scenario(editor: Editor) -> None:
        assert await editor.ask("unsure = ┃\n") == shown

    play(scenario, replace(SETTINGS, **changes))


def test_a_block_is_shown_as_far_as_it_is_sure_where_it_may_stand_so() -> None:
    async def scenario(editor: Editor) -> None:
        query = editor.query("function f() {┃\n}\n")
        query = replace(query, document=replace(query.document, language="javascript"))
        [suggestion] = await editor.scheduler.suggest(query, SETTINGS)
        assert suggestion.text == "\n  a();\n  b();"

    play(scenario)


def test_a_block_that_is_cut_tells_what_was_written_and_why_it_ended() -> None:
    async def scenario(editor: Editor) -> None:
        query = editor.query("function f() {┃\n}\n\ng();\n", invoked=True)
        query = replace(query, document=replace(query.document, language="javascript"))
        assert await editor.scheduler.suggest(query, replace(SETTINGS, alternatives=1))
        assert editor.finish in (Finish.BLOCK, Finish.END_OF_TEXT)
        assert editor.scheduler.last.decoded > 8

    play(scenario)


def test_what_was_undone_is_not_offered_back_until_something_else_is_typed() -> None:
    async def scenario(editor: Editor) -> None:
        assert await editor.ask("total = ┃\n") == "sum(items)"
        accepted, undone = editor.query("total = sum(items)┃\n"), editor.query("total = ┃\n")
        editor.scheduler.edited(accepted.document, Edit(8, "", "sum(items)"))
        editor.scheduler.edited(undone.document, Edit(8, "sum(items)", ""))
        assert await editor.scheduler.suggest(undone, SETTINGS) == ()
        assert reason_in(editor) is Reason.JUST_DELETED
        typed = editor.query("total = s┃\n")
        editor.scheduler.edited(typed.document, Edit(8, "", "s"))
        [suggestion] = await editor.scheduler.suggest(typed, SETTINGS)
        assert suggestion.text == "um(items)"

    play(scenario)


def test_what_was_dismissed_is_not_offered_again_though_the_engine_writes_it_anew() -> None:
    async def scenario(editor: Editor) -> None:
        [suggestion] = await editor.scheduler.suggest(editor.query("total = ┃\n"), SETTINGS)
        editor.scheduler.dismissed(suggestion.id)
        for idx in range(10):  # more than is remembered
            await editor.ask(f"other{idx} = 1\ntotal = ┃\n")
        assert await editor.ask("total = ┃\n") is None
        assert reason_in(editor) is Reason.DISMISSED
        assert await editor.ask("total = ┃\n", invoked=True) == "sum(items)"

    play(scenario)


@pytest.mark.parametrize(("marked", "at_s"), [("total = ┃\n", 0.3), ("slow = ┃\n", 0.3)])
def test_what_is_computed_at_once_is_shown_once_the_cursor_rests(marked, at_s) -> None:
    async def scenario(editor: Editor) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        assert await editor.ask(marked)
        assert loop.time() - begun == pytest.approx(at_s, abs=0.01)
        begun = loop.time()
        assert await editor.ask(marked.replace("= ", "= s" if "total" in marked else "= o"))
        assert loop.time() == begun  # it is on the screen already

    play(scenario, replace(SETTINGS, show_after_ms=300))


def test_what_was_asked_for_by_hand_is_shown_at_once() -> None:
    async def scenario(editor: Editor) -> None:
        begun = asyncio.get_running_loop().time()
        assert await editor.ask("total = ┃\n", invoked=True)
        assert asyncio.get_running_loop().time() == begun

    play(scenario, replace(SETTINGS, show_after_ms=300))
