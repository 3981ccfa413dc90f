"""Who gets an answer, when, and what it costs: on the scripted engine and a fake clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import pytest

from engine.api import Chunk, Counters, EngineError, Finish, Order, Request, State, Status
from engine.scripted import Rule, ScriptedEngine
from lsp_server.documents import Document, Query
from lsp_server.scheduler import Scheduler
from lsp_server.settings import Settings
from lsp_server.stats import Stats
from lsp_server.text import Text
from lsp_server.tracing import Tracer
from lsp_server.verdict import Reason, Verdict
from tests.lsp_server.clock import run
from tests.lsp_server.places import split

SETTINGS = Settings(deadline_ms=1000, compute_ahead=False)
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

    def __init__(self, scheduler: Scheduler, engine: CountingEngine, settings: Settings, stats: Stats | None = None) -> None:
        self.scheduler, self.engine, self._settings, self._stats = scheduler, engine, settings, stats or Stats()
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
            suggestions = await self.scheduler.suggest(query, self._settings)
            return suggestions[0].text if suggestions else None

        return asyncio.create_task(answer())

    def n_counted(self, name: str) -> int:
        """What the local counters say of tokens."""
        return int(self._stats.summary()[f"tokens_{name}"])

    @property
    def finish(self) -> Finish:
        assert self.scheduler.last
        return self.scheduler.last.finish

    async def is_idle(self) -> bool:
        return (await self.engine.status()).state is State.READY


def play(scenario: Callable[[Editor], Awaitable[None]], rules: Sequence[Rule] = RULES, settings: Settings = SETTINGS) -> None:
    """Runs a scenario to its end and lets go of everything."""

    async def whole() -> None:
        engine, tracer = CountingEngine(rules), Tracer()
        scheduler = Scheduler(lambda: engine, tracer)
        try:
            await scenario(Editor(scheduler, engine, settings, tracer.stats))
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


@pytest.mark.parametrize("end", ["cancel", "disagree", "close"])
def test_the_tokens_of_what_was_stopped_are_counted_too(end) -> None:
    async def scenario(editor: Editor) -> None:
        task = editor.ask("slow = ┃\n")
        await asyncio.sleep(0.12)
        if end == "cancel":
            task.cancel()
        elif end == "disagree":
            editor.scheduler.edited(editor.query("slow = x┃\n").document)
        else:
            editor.scheduler.closed("file:///d.py")
        await asyncio.sleep(0.01)
        assert editor.n_counted("decoded") == 2
        await editor.ask("total = ┃\n")
        await editor.ask("total = su┃\n")
        assert editor.n_counted("decoded") == 2 + 4

    play(scenario)


def test_the_tokens_of_a_block_are_counted_though_it_is_stopped_at_its_end() -> None:
    async def scenario(editor: Editor) -> None:
        await editor.ask("f() {┃\n")
        assert editor.n_counted("decoded") == editor.scheduler.last.decoded > 5

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
        [suggestion] = await editor.scheduler.suggest(query, replace(SETTINGS, deadline_ms=170))
        assert suggestion.text == "one two three"
        assert (editor.finish, editor.scheduler.last.decoded) == (Finish.DEADLINE, 3)
        assert loop.time() - start < 0.25
        assert await editor.ask("slow = o┃\n") == "ne two three"
        assert await editor.ask("slow = ┃\n") == "one two three four five six seven eight nine ten"

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
        assert await scheduler.suggest(Query(document, 4), SETTINGS) == ()
        assert asyncio.get_running_loop().time() == 0
        await scheduler.aclose()

    run(scenario())


class CountingEngine(ScriptedEngine):
    """Counts the completions that it is asked for."""

    n_started = 0

    def complete(self, request: Request, on_stopped=None):
        self.n_started += 1
        return super().complete(request, on_stopped)


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
        assert await scheduler.suggest(query, SETTINGS) == ()
        assert loop.time() == pytest.approx(1.0)
        assert scheduler.verdicts["u"] == Verdict(Reason.LOADING)
        [suggestion] = await scheduler.suggest(query, replace(SETTINGS, deadline_ms=5000))
        assert suggestion.text == "sum(items)"
        await scheduler.aclose()

    run(scenario())


class HalfLoadedEngine(ScriptedEngine):
    """Knows its window, but writes nothing before its weights are there, in three seconds."""

    async def status(self) -> Status:
        status, progress = await super().status(), asyncio.get_running_loop().time() / 3
        return status if progress >= 1 else replace(status, state=State.LOADING, progress=progress)


def test_a_deadline_that_passes_while_the_weights_load_is_put_down_to_that() -> None:
    async def scenario() -> None:
        scheduler = Scheduler(lambda: HalfLoadedEngine([Rule(prefix_ends="", text="late", token_ms=3000)]), Tracer())
        query = Query(Document(uri="u", language="", version=1, text=Text.of("a = ")), 4)
        for at_s, expected in [(0.0, "0% of its weights are read"), (1.5, "50% of its weights are read"), (3.0, None)]:
            await asyncio.sleep(at_s - asyncio.get_running_loop().time())
            await scheduler.status()
            assert await scheduler.suggest(query, replace(SETTINGS, deadline_ms=500)) == ()
            assert scheduler.verdicts["u"] == (Verdict(Reason.LOADING, expected) if expected else Verdict(Reason.DEADLINE))
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


@pytest.mark.parametrize(
    ("marked", "types_on", "expected"),
    [
        ("function f() {┃}\nf();\n", False, [("function f() {\n  ", "\n}\nf();\n")]),
        ("function f() {┃}\nf();\n", True, []),
        ("let x = ┃;\n", False, []),
    ],
)
def test_where_the_cursor_rests_between_brackets_what_enter_will_make_of_it_is_prefilled(marked, types_on, expected) -> None:
    async def scenario() -> None:
        engine = PrefetchingEngine()
        scheduler = Scheduler(lambda: engine, Tracer())
        offset, text = marked.index("┃"), Text.of(marked.replace("┃", ""))
        document = Document(uri="u", language="javascript", version=1, text=text)
        await scheduler.suggest(Query(document, offset), SETTINGS)
        if types_on:
            scheduler.edited(replace(document, version=2, text=text.replace(text.position(offset), text.position(offset), "x")))
        await asyncio.sleep(1)
        await scheduler.aclose()
        assert [(request.prefix, request.suffix) for request in engine.asked] == expected

    run(scenario())


def test_nothing_private_and_nothing_at_all_where_it_is_switched_off() -> None:
    async def scenario(editor: Editor) -> None:
        query = editor.query("total = ┃\n")
        private = replace(query, document=replace(query.document, private=True))
        assert await editor.scheduler.suggest(private, SETTINGS) == ()
        assert await editor.scheduler.suggest(query, replace(SETTINGS, enabled=False)) == ()
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
        [suggestion] = await editor.scheduler.suggest(query, SETTINGS)
        assert suggestion.text == "\n  a();\n}"
        assert await editor.is_idle()

    play(scenario)


AHEAD = replace(SETTINGS, compute_ahead=True)
BEHIND_RULES = [
    Rule(prefix_ends="total = sum(items)", text="\nprint(total)\nprint(items)\n", token_ms=10),
    Rule(prefix_ends="total = ", text="sum(items)\n"),
    Rule(prefix_ends="other = ", text="1\n"),
    Rule(prefix_ends="slow = ", text="one two three four\n", token_ms=1000),
]


async def typed_through(editor: Editor) -> None:
    for marked in ("total = su┃\n", "total = sum(items┃\n"):
        assert await editor.ask(marked)


BEFORE_ACCEPTING = {
    "at once": lambda editor: asyncio.sleep(0.16),
    "after a rest": lambda editor: asyncio.sleep(1),
    "typed through": typed_through,
}


@pytest.mark.parametrize("before", BEFORE_ACCEPTING.values(), ids=BEFORE_ACCEPTING)
def test_what_follows_a_suggestion_is_being_written_while_that_is_shown(before) -> None:
    async def scenario(editor: Editor) -> None:
        assert await editor.ask("total = ┃\n") == "sum(items)"
        await before(editor)
        await asyncio.sleep(0.3)
        last = (await editor.engine.status()).last
        assert await editor.ask("total = sum(items)┃\n") == "\nprint(total)"
        assert (await editor.engine.status()).last == last
        assert await editor.ask("total = sum(items)\n┃\n") == "print(total)"
        assert editor.finish is Finish.SHOWN

    play(scenario, BEHIND_RULES, AHEAD)


@pytest.mark.parametrize("is_stopped", [False, True])
def test_the_tokens_of_what_is_written_ahead_are_counted_apart(is_stopped) -> None:
    async def scenario(editor: Editor) -> None:
        await editor.ask("total = ┃\n")
        await asyncio.sleep(0.18 if is_stopped else 1)
        editor.scheduler.closed("file:///d.py")
        await asyncio.sleep(0.01)
        assert (editor.n_counted("ahead"), editor.n_counted("decoded")) == (2 if is_stopped else 6, 4)

    play(scenario, BEHIND_RULES, AHEAD)


def test_accepting_before_the_cursor_rested_starts_the_next_at_once() -> None:
    async def scenario(editor: Editor) -> None:
        [suggestion] = await editor.scheduler.suggest(editor.query("total = ┃\n"), AHEAD)
        editor.scheduler.edited(editor.query("total = sum(items)┃\n").document)
        editor.scheduler.accepted(suggestion.id, AHEAD)
        await asyncio.sleep(0.02)
        assert not await editor.is_idle()
        assert await editor.ask("total = sum(items)┃\n") == "\nprint(total)"

    play(scenario, BEHIND_RULES, AHEAD)


async def disagrees(editor: Editor, shown: str) -> None:
    editor.scheduler.edited(editor.query("total = x┃\n").document)


async def edits_elsewhere(editor: Editor, shown: str) -> None:
    editor.scheduler.edited(editor.query("# above\ntotal = ┃\n").document)


async def asks_elsewhere(editor: Editor, shown: str) -> None:
    assert await editor.scheduler.suggest(editor.query("total = 5\nother = ┃\n"), SETTINGS)


async def dismisses(editor: Editor, shown: str) -> None:
    editor.scheduler.dismissed(shown)


async def closes(editor: Editor, shown: str) -> None:
    editor.scheduler.closed("file:///d.py")


@pytest.mark.parametrize("rest_s", [0.1, 0.16])
@pytest.mark.parametrize("turn_away", [disagrees, edits_elsewhere, asks_elsewhere, dismisses, closes])
def test_nothing_is_written_behind_a_suggestion_that_is_off_the_screen(turn_away, rest_s) -> None:
    async def scenario(editor: Editor) -> None:
        [suggestion] = await editor.scheduler.suggest(editor.query("total = ┃\n"), AHEAD)
        await asyncio.sleep(rest_s)
        await turn_away(editor, suggestion.id)
        await asyncio.sleep(0)
        assert await editor.is_idle()
        await asyncio.sleep(1)
        last = (await editor.engine.status()).last
        assert last.decoded < 5  # of the suggestion itself, or where the two part

    play(scenario, BEHIND_RULES, AHEAD)


def test_a_request_that_memory_cannot_answer_does_not_wait_for_what_is_written_ahead() -> None:
    async def scenario(editor: Editor) -> None:
        await editor.ask("total = ┃\n")
        await asyncio.sleep(0.16)
        assert await editor.ask("other = ┃\n") == "1"
        assert asyncio.get_running_loop().time() < 0.17

    play(scenario, BEHIND_RULES, AHEAD)


def test_a_word_or_a_line_taken_leaves_the_rest_unchanged_without_the_engine() -> None:
    async def scenario(editor: Editor) -> None:
        shown = await editor.ask("f() {┃\n")
        assert shown == "\n  a();\n}"
        before = (await editor.engine.status()).last
        for n in (1, 4, 7, len(shown) - 1):
            assert await editor.ask(f"f() {{{shown[:n]}┃\n") == shown[n:]
        for n in (5, 2, 0):
            assert await editor.ask(f"f() {{{shown[:n]}┃\n") == shown[n:]
        assert (await editor.engine.status()).last == before

    play(scenario)


class Alternatives(ScriptedEngine):
    """Writes another text for each alternative, each with its own certainty."""

    texts = (("one", -2.0), ("two", -0.5), ("one ", -1.0), ("half", -3.0))

    async def complete(self, request: Request, on_stopped=None):
        for choice, (text, logprob) in enumerate(self.texts[: request.n]):
            yield Chunk(text=text, logprobs=(logprob,), choice=choice)
        yield Chunk(text="", choice=request.n - 1, counters=Counters(decoded=request.n))


def test_several_alternatives_come_on_demand_each_once_and_the_likeliest_first() -> None:
    async def scenario() -> None:
        engine = Alternatives([])
        scheduler = Scheduler(lambda: engine, Tracer())
        document = Document(uri="u", language="plaintext", version=1, text=Text.of("x = "))
        asked = await scheduler.suggest(Query(document, 4, invoked=True), replace(SETTINGS, alternatives=4))
        assert [each.text for each in asked] == ["two", "one", "half"]
        assert scheduler.last.decoded == 4
        again = await scheduler.suggest(Query(document, 4, invoked=True), replace(SETTINGS, alternatives=4))
        assert (again, scheduler.last.finish) == (asked, Finish.SHOWN)
        await scheduler.aclose()

    run(scenario())


@pytest.mark.parametrize(("debounce_ms", "client_waits", "answered_at"), [(100, True, 0.1), (0, False, 0), (None, True, 0)])
def test_the_model_is_asked_when_the_user_s_wait_is_over(debounce_ms, client_waits, answered_at) -> None:
    async def scenario(editor: Editor) -> None:
        editor.scheduler.client_waits = client_waits
        assert await editor.ask("total = ┃\n") == "sum(items)"
        assert asyncio.get_running_loop().time() == pytest.approx(answered_at)
        assert await editor.ask("total = s┃\n") == "um(items)"  # from memory: at once
        assert await editor.ask("other = ┃\n", invoked=True) == "sum(items)"  # by hand: at once
        assert asyncio.get_running_loop().time() == pytest.approx(answered_at)

    play(scenario, settings=replace(SETTINGS, debounce_ms=debounce_ms))


def test_a_key_during_the_wait_costs_the_engine_nothing() -> None:
    async def scenario(editor: Editor) -> None:
        first = editor.ask("total = ┃\n")
        await asyncio.sleep(0.05)
        second = editor.ask("total = x = ┃\n")
        await asyncio.sleep(0.05)
        assert (await editor.engine.status()).last is None
        assert (await first, await second) == (None, "sum(items)")

    play(scenario, settings=replace(SETTINGS, debounce_ms=100))


def test_a_client_that_asks_at_every_key_of_a_slow_model_waits_for_a_pause() -> None:
    async def scenario(editor: Editor) -> None:
        asked = []
        for n in range(12):
            asked.append(editor.ask(f"{'x' * n}.slow = ┃\n"))
            await asyncio.sleep(0.12)
        await asyncio.sleep(1)
        started = editor.engine.n_started
        for n in range(12):
            asked.append(editor.ask(f"{'y' * n}.slow = ┃\n"))
            await asyncio.sleep(0.12)
        assert editor.engine.n_started == started
        assert await asked[-1] == "one two three four five six seven eight nine ten"

    play(scenario, settings=SETTINGS)


def test_a_wait_longer_than_the_deadline_still_leaves_the_model_its_time() -> None:
    async def scenario(editor: Editor) -> None:
        assert await editor.ask("total = ┃\n") == "sum(items)"

    play(scenario, settings=replace(SETTINGS, debounce_ms=5000, deadline_ms=100))


def test_what_is_written_for_another_place_does_not_go_on_during_the_wait() -> None:
    async def scenario(editor: Editor) -> None:
        editor.ask("slow = ┃\n")
        await asyncio.sleep(0.15)
        second = editor.ask("other = ┃\n")
        await asyncio.sleep(0.05)
        assert await editor.is_idle()
        assert await second == "sum(items)"

    play(scenario, settings=replace(SETTINGS, debounce_ms=100))
