"""Who gets an answer, when, and what it costs: on the scripted engine and a fake clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from engine.api import EngineError, Finish, Order, Request, State, Status
from engine.scripted import Rule, ScriptedEngine
from lsp_server.backend import Query
from lsp_server.documents import Document
from lsp_server.scheduler import Scheduler
from lsp_server.settings import Settings
from lsp_server.text import Text
from lsp_server.tracing import Tracer
from tests.lsp_server.clock import run
from tests.lsp_server.places import split

SETTINGS = Settings(deadline_ms=1000)
RULES = [
    Rule(prefix_ends="slow = ", text="one two three four five six seven eight nine ten\n", token_ms=50),
    Rule(prefix_ends="fails = ", text="half", error="EngineClosed"),
    Rule(prefix_ends="nothing = ", text="\n"),
    Rule(prefix_ends="f() {", text="\n  a();\n}\n\nfunction g() {\n  b();\n  c();\n}\n", token_ms=20),
    Rule(prefix_ends="x", text=" anything"),
    Rule(prefix_ends=" = ", text="sum(items)\n"),
]


class Editor:
    """One document and the requests made in it, as an editor would."""

    def __init__(self, scheduler: Scheduler, engine: ScriptedEngine) -> None:
        self.scheduler, self.engine = scheduler, engine
        self._version = 0

    def query(self, marked: str, *, invoked: bool = False) -> Query:
        before, after = split(marked)
        self._version += 1
        document = Document(uri="file:///d.py", language="plaintext", version=self._version, text=Text.of(before + after))
        return Query(document, len(before), invoked)

    def ask(self, marked: str, *, invoked: bool = False) -> asyncio.Task[str | None]:
        """Sends the edit that leads to a text, and asks at its cursor."""
        query = self.query(marked, invoked=invoked)
        self.scheduler.edited(query.document)

        async def answer() -> str | None:
            suggestion = await self.scheduler.suggest(query, SETTINGS)
            return suggestion and suggestion.text

        return asyncio.create_task(answer())

    @property
    def finish(self) -> Finish:
        assert self.scheduler.last
        return self.scheduler.last.finish

    async def is_idle(self) -> bool:
        return (await self.engine.status()).state is State.READY


def play(scenario: Callable[[Editor], Awaitable[None]]) -> None:
    """Runs a scenario to its end and lets go of everything."""

    async def whole() -> None:
        engine = ScriptedEngine(RULES)
        scheduler = Scheduler(lambda: engine, Tracer())
        try:
            await scenario(Editor(scheduler, engine))
        finally:
            await scheduler.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}, "a task was leaked"

    run(whole())


def test_a_request_is_answered_with_what_the_model_wrote() -> None:
    async def scenario(editor: Editor) -> None:
        assert await editor.ask("total = ┃\n") == "sum(items)"
        assert editor.finish is Finish.NEWLINE
        assert editor.scheduler.last.decoded == 4

    play(scenario)


def test_typing_into_the_suggestion_and_back_is_answered_from_memory() -> None:
    async def scenario(editor: Editor) -> None:
        await editor.ask("total = ┃\n")
        for marked, rest in [("total = su┃\n", "m(items)"), ("total = sum(┃)\n", "items"), ("total = s┃\n", "um(items)")]:
            assert await editor.ask(marked) == rest
            assert (editor.finish, editor.scheduler.last.decoded) == (Finish.SHOWN, 0)

    play(scenario)


def test_a_place_with_nothing_to_say_is_not_asked_twice() -> None:
    async def scenario(editor: Editor) -> None:
        assert await editor.ask("nothing = ┃\n") is None
        assert editor.finish is Finish.NEWLINE
        assert await editor.ask("nothing = ┃\n") is None
        assert editor.finish is Finish.SHOWN

    play(scenario)


def test_the_newest_request_wins_and_the_one_before_answers_empty() -> None:
    async def scenario(editor: Editor) -> None:
        first = editor.ask("slow = ┃\n")
        await asyncio.sleep(0.12)
        second = editor.ask("other = ┃\n")
        assert (await first, await second) == (None, "sum(items)")
        assert await editor.is_idle()

    play(scenario)


def test_a_key_that_agrees_with_what_is_being_written_lets_it_run_on() -> None:
    async def scenario(editor: Editor) -> None:
        first = editor.ask("slow = ┃\n")
        await asyncio.sleep(0.12)
        second = editor.ask("slow = on┃\n")
        assert (await first, await second) == (None, "e two three four five six seven eight nine ten")
        assert (editor.finish, editor.scheduler.last.decoded) == (Finish.NEWLINE, 10)

    play(scenario)


def test_typing_ahead_of_what_is_being_written_is_waited_for_and_ends_it_where_they_part() -> None:
    async def scenario(editor: Editor) -> None:
        editor.ask("slow = ┃\n")
        await asyncio.sleep(0.12)
        assert await editor.ask("slow = one two three f┃\n") == "our five six seven eight nine ten"
        editor.ask("x.slow = ┃\n")
        await asyncio.sleep(0.02)
        assert await editor.ask("x.slow = onex┃\n") == " anything"
        assert editor.finish is Finish.END_OF_TEXT

    play(scenario)


def test_an_edit_that_disagrees_stops_the_engine_without_a_new_request() -> None:
    async def scenario(editor: Editor) -> None:
        first = editor.ask("slow = ┃\n")
        await asyncio.sleep(0.12)
        editor.scheduler.edited(editor.query("slow = z┃\n").document)
        assert await first is None
        assert await editor.is_idle()

    play(scenario)


@pytest.mark.parametrize(("edited", "n_decoded"), [("slow = z┃\n", 1), ("slow = one twenty┃\n", 2), ("slow = on┃)\n", 10)])
def test_an_edit_ahead_of_the_text_ends_it_where_they_part(edited, n_decoded) -> None:
    async def scenario(editor: Editor) -> None:
        first = editor.ask("slow = ┃\n")
        await asyncio.sleep(0.02)
        editor.scheduler.edited(editor.query(edited).document)
        assert await first is None
        assert not await editor.is_idle()
        await asyncio.sleep(1)
        status = await editor.engine.status()
        assert (status.state, status.last.decoded) == (State.READY, n_decoded)

    play(scenario)


@pytest.mark.parametrize("edited", ["slow = o┃\n", "slow = one two┃\n", "slow = one┃)\n"])
def test_an_edit_that_agrees_ends_the_request_but_not_the_engine_s_work(edited) -> None:
    async def scenario(editor: Editor) -> None:
        first = editor.ask("slow = ┃\n")
        await asyncio.sleep(0.06)
        editor.scheduler.edited(editor.query(edited).document)
        assert await first is None
        assert not await editor.is_idle()

    play(scenario)


def test_a_cancelled_request_stops_the_engine_at_once() -> None:
    async def scenario(editor: Editor) -> None:
        asked = editor.ask("slow = ┃\n")
        await asyncio.sleep(0.12)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        await asyncio.sleep(0)
        status = await editor.engine.status()
        assert (status.state, status.last.finish, status.last.decoded) == (State.READY, Finish.CANCELLED, 2)

    play(scenario)


def test_a_late_cancel_of_a_superseded_request_does_not_stop_the_newer_one() -> None:
    async def scenario(editor: Editor) -> None:
        first = editor.ask("slow = ┃\n")
        await asyncio.sleep(0.12)
        second = editor.ask("slow = o┃\n")
        await asyncio.sleep(0)
        first.cancel()
        assert await second == "ne two three four five six seven eight nine ten"

    play(scenario)


def test_at_the_deadline_what_there_is_is_shown() -> None:
    async def scenario(editor: Editor) -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        query = editor.query("slow = ┃\n")
        suggestion = await editor.scheduler.suggest(query, replace(SETTINGS, deadline_ms=170))
        assert suggestion.text == "one two three"
        assert (editor.finish, editor.scheduler.last.decoded) == (Finish.DEADLINE, 3)
        assert loop.time() - start < 0.25

    play(scenario)


def test_a_close_ends_the_request_and_the_engine_s_work() -> None:
    async def scenario(editor: Editor) -> None:
        asked = editor.ask("slow = ┃\n")
        await asyncio.sleep(0.12)
        editor.scheduler.closed("file:///d.py")
        assert await asked is None
        assert await editor.is_idle()

    play(scenario)


def test_an_engine_that_fails_is_silence_and_one_log_line(caplog) -> None:
    async def scenario(editor: Editor) -> None:
        assert await editor.ask("fails = ┃\n") is None
        assert editor.finish is Finish.ERROR
        assert await editor.ask("total = ┃\n") == "sum(items)"

    play(scenario)
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
        "the engine failed: the script says EngineClosed"
    ]


def test_an_engine_that_can_t_be_opened_says_why_and_never_fails() -> None:
    def refuse() -> ScriptedEngine:
        raise EngineError("no such model")

    async def scenario() -> None:
        scheduler = Scheduler(refuse, Tracer())
        assert scheduler.start() == "no such model"
        assert (await scheduler.status()).state is State.ENGINE_DOWN
        document = Document(uri="u", language="", version=1, text=Text.of("x = "))
        scheduler.opened(document, SETTINGS)
        assert await scheduler.suggest(Query(document, 4), SETTINGS) is None
        assert asyncio.get_running_loop().time() == 0
        await scheduler.aclose()

    run(scenario())


class LoadingEngine(ScriptedEngine):
    """Knows its window only after three seconds."""

    async def status(self) -> Status:
        loaded = asyncio.get_running_loop().time() >= 3
        return await super().status() if loaded else Status(state=State.LOADING)


def test_while_loading_a_request_is_answered_empty_by_its_deadline_and_later_ones_are_answered() -> None:
    async def scenario() -> None:
        scheduler = Scheduler(lambda: LoadingEngine(RULES), Tracer())
        loop = asyncio.get_running_loop()
        query = Query(Document(uri="u", language="", version=1, text=Text.of("a = ")), 4)
        scheduler.opened(query.document, SETTINGS)
        assert await scheduler.suggest(query, SETTINGS) is None
        assert loop.time() == pytest.approx(1.0)
        suggestion = await scheduler.suggest(query, replace(SETTINGS, deadline_ms=5000))
        assert suggestion.text == "sum(items)"
        await scheduler.aclose()

    run(scenario())


class PrefetchingEngine(ScriptedEngine):
    """Notes what it is asked to prefill."""

    def __init__(self) -> None:
        super().__init__(RULES)
        self.asked: list[Request] = []

    async def prefetch(self, request: Request) -> None:
        self.asked.append(request)


@pytest.mark.parametrize(
    ("text", "settings", "n_prefetched"), [("x" * 20_000, SETTINGS, 1), ("", SETTINGS, 0), ("x", Settings(prefetch=False), 0)]
)
def test_an_open_prefills_the_first_window_alone(text, settings, n_prefetched) -> None:
    async def scenario() -> None:
        engine = PrefetchingEngine()
        scheduler = Scheduler(lambda: engine, Tracer())
        scheduler.opened(Document(uri="u", language="", version=1, text=Text.of(text)), settings)
        await asyncio.sleep(1)
        await scheduler.aclose()
        assert [(request.prefix, request.suffix, request.order) for request in engine.asked] == [
            (text[: 8192 * 3 // 4], "", Order.PSM)
        ] * n_prefetched

    run(scenario())


def test_nothing_private_and_nothing_at_all_where_it_is_switched_off() -> None:
    async def scenario(editor: Editor) -> None:
        query = editor.query("total = ┃\n")
        private = replace(query, document=replace(query.document, private=True))
        assert await editor.scheduler.suggest(private, SETTINGS) is None
        assert await editor.scheduler.suggest(query, replace(SETTINGS, enabled=False)) is None
        assert editor.scheduler.last is None

    play(scenario)


def test_code_behind_the_cursor_is_answered_only_on_demand() -> None:
    async def scenario(editor: Editor) -> None:
        assert await editor.ask("total = ┃items\n") is None
        assert editor.scheduler.last is None
        assert await editor.ask("total = ┃items\n", invoked=True) == "sum(items)"

    play(scenario)


def test_a_block_is_written_until_its_scope_closes() -> None:
    async def scenario(editor: Editor) -> None:
        query = editor.query("function f() {┃\n")
        query = replace(query, document=replace(query.document, language="javascript"))
        suggestion = await editor.scheduler.suggest(query, SETTINGS)
        assert suggestion
        assert suggestion.text == "\n  a();\n}"
        assert await editor.is_idle()

    play(scenario)
