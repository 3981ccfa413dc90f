"""An engine without a model: it replays written completions, for tests and for work on an editor."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.api import (
    CheckpointError,
    Chunk,
    ContextTooLong,
    Counters,
    EngineClosed,
    EngineError,
    Finish,
    OutOfMemory,
    Request,
    State,
    Status,
    Stop,
)

_TOKEN = re.compile(r" ?\w+|\r\n|\r|\n| ?[^\w\s]|[^\S\r\n]+")  # about what a byte-level BPE makes of code
_FAILURES: dict[str, type[EngineError]] = {
    each.__name__: each for each in (EngineError, CheckpointError, ContextTooLong, OutOfMemory, EngineClosed)
}
_MAX_CHARS = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What to write where the prefix ends in `prefix_ends`; `error` names an exception to raise once it is written.

    `logprob` is that of each token, and one less of a `?`; further alternatives take the texts of `others`, each a little less
    likely than the one before.
    """

    prefix_ends: str
    text: str = ""
    others: tuple[str, ...] = ()
    token_ms: float = 0.0
    logprob: float = 0.0
    error: str | None = None


class ScriptedEngine:
    """Writes the text of the first rule that matches, token by token, and nothing where none does."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = tuple(rules)
        self._n_running = 0
        self._closed = False
        self._last: Counters | None = None

    @classmethod
    def from_file(cls, path: str) -> ScriptedEngine:
        """Reads a JSON list of rules, each an object with the fields of `Rule`.

        Raises: EngineError where the file is missing or is anything else.
        """
        try:
            entries = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise EngineError(f"script {path} can't be read: {error}") from error
        if not isinstance(entries, list):
            raise EngineError(f"script {path} must be a JSON list of rules, got {type(entries).__name__}")
        return cls([_rule(entry, f"script {path}, rule {idx}") for idx, entry in enumerate(entries)])

    async def complete(
        self, request: Request, on_stopped: Callable[[Counters], None] | None = None
    ) -> AsyncGenerator[Chunk, None]:
        """Writes on until the text, a limit or the stream ends; where the rule has no other text, alternatives are the same."""
        self._require_open()
        rule = next((each for each in self._rules if request.prefix.endswith(each.prefix_ends)), Rule(prefix_ends=""))
        start = asyncio.get_running_loop().time()
        n_written, first_ms, finish, is_whole = 0, None, Finish.CANCELLED, False

        def counters() -> Counters:
            return Counters(decoded=n_written, first_ms=first_ms, total_ms=_ms_since(start), finish=finish)

        self._n_running += 1
        try:
            for choice in range(request.n):
                n_before, ended = n_written, Finish.END_OF_TEXT
                text = (rule.text, *rule.others)[min(choice, len(rule.others))]
                for token in _TOKEN.findall(text):
                    n_decoded = n_written - n_before
                    if stopped := await self._wait_for(token, rule, request=request, start=start, n_decoded=n_decoded):
                        ended = stopped
                        break
                    first_ms = _ms_since(start) if first_ms is None else first_ms
                    n_written += 1
                    logprob = rule.logprob - ("?" in token) - 0.1 * choice
                    yield Chunk(text=token, logprobs=(logprob,), choice=choice)
                if ended in (Finish.DEADLINE, Finish.CANCELLED):
                    break
            if rule.error is not None:
                finish = Finish.ERROR
                raise _FAILURES[rule.error](f"the script says {rule.error}")
            finish, is_whole = ended, True
            yield Chunk(text="", counters=counters())
        finally:
            self._n_running -= 1
            self._last = counters()
            if on_stopped and finish is Finish.CANCELLED and not is_whole:
                on_stopped(self._last)

    async def _wait_for(self, token: str, rule: Rule, *, request: Request, start: float, n_decoded: int) -> Finish | None:
        """Takes the time that a token takes; gives the reason where it may not be written."""
        if request.stop is Stop.NEWLINE and token[0] in "\r\n":
            return Finish.NEWLINE
        if n_decoded >= request.max_tokens:
            return Finish.MAX_TOKENS
        left_ms = float("inf") if request.deadline_ms is None else request.deadline_ms - _ms_since(start)
        await asyncio.sleep(max(0.0, min(rule.token_ms, left_ms)) / 1000)
        if self._closed:
            return Finish.CANCELLED
        return Finish.DEADLINE if left_ms <= 0 or left_ms < rule.token_ms else None

    async def prefetch(self, request: Request) -> None:
        """There is nothing to prefill."""
        self._require_open()

    async def forget(self, document: str) -> None:
        """There is nothing to forget."""
        self._require_open()

    async def status(self) -> Status:
        state = State.ENGINE_DOWN if self._closed else State.BUSY if self._n_running else State.READY
        return Status(state=state, model="scripted", max_chars=_MAX_CHARS, detail="replays a script", last=self._last)

    async def aclose(self) -> None:
        self._closed = True

    def _require_open(self) -> None:
        if self._closed:
            raise EngineClosed("the scripted engine was closed")


def _ms_since(start: float) -> float:
    return (asyncio.get_running_loop().time() - start) * 1000


def _rule(entry: Any, where: str) -> Rule:
    if not isinstance(entry, dict) or not isinstance(entry.get("prefix_ends"), str):
        raise EngineError(f"{where}: must be an object with at least a text `prefix_ends`, got {entry!r:.80}")
    kinds: dict[str, tuple[type, ...]] = dict.fromkeys(("prefix_ends", "text", "error"), (str,))
    kinds |= {"others": (list,), "token_ms": (int, float), "logprob": (int, float)}
    for name, value in entry.items():
        if name not in kinds:
            raise EngineError(f"{where}: unknown field {name!r}, allowed are {', '.join(kinds)}")
        if not isinstance(value, kinds[name]) or isinstance(value, bool):
            raise EngineError(
                f"{where}: {name} must be {' or '.join(kind.__name__ for kind in kinds[name])}, got {value!r:.80}"
            )
    others = entry.get("others", [])
    if not all(isinstance(each, str) for each in others):
        raise EngineError(f"{where}: others must be a list of texts, got {others!r:.80}")
    if entry.get("error") not in (None, *_FAILURES):
        raise EngineError(f"{where}: error must be one of {', '.join(_FAILURES)}, got {entry['error']!r:.80}")
    return Rule(**{**entry, "others": tuple(others)})
