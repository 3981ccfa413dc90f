"""The engine's one door: all that a language server may know of it.

Frozen plain data, an `Engine` protocol, error types and `open_engine`. Standard library only, so that
importing it costs nothing and pulls in neither torch nor a socket.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class Order(StrEnum):
    """Which of the two trained fill-in-the-middle orders a prompt is written in."""

    AUTO = "auto"  # whichever has fewer uncached tokens
    SPM = "spm"
    PSM = "psm"


class Stop(StrEnum):
    """What text, besides the end of text and a repeated suffix, ends a completion."""

    NONE = "none"
    NEWLINE = "newline"


class Window(StrEnum):
    """How much of the request's text the prompt held."""

    FULL = "full"
    SHORT = "short"  # what could be prefilled within the deadline


class Finish(StrEnum):
    """Why a completion ended."""

    NEWLINE = "newline"
    END_OF_TEXT = "end_of_text"
    SUFFIX = "suffix"  # the output began to repeat the suffix
    MAX_TOKENS = "max_tokens"
    DEADLINE = "deadline"
    CANCELLED = "cancelled"
    BLOCK = "block"  # the server closed the stream, for the block was whole; its counters are what it saw itself
    SHOWN = "shown"  # answered from a suggestion already shown: the engine did nothing
    ERROR = "error"


class State(StrEnum):
    """What an engine is doing, in the order in which it gets there."""

    LOADING = "loading"
    WARMING = "warming"
    READY = "ready"
    BUSY = "busy"
    ENGINE_DOWN = "engine_down"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One completion to compute: the text around the cursor and the limits on the answer.

    `document` is an opaque key that keeps one document's caches together; windows, another such key, take turns, and the
    resident engine gives each connection its own. `prefix` and `suffix` are already cut to
    windows, together at most `Status.max_chars` code points; lone surrogates in them become U+FFFD. `max_tokens` bounds
    each of the `n` alternatives, `deadline_ms` runs from the engine's receipt. Temperature 0 is greedy. A `speculative`
    request is one that nobody waits for yet: it gives way to anybody's that is not, and then ends as cancelled.
    """

    document: str
    prefix: str
    suffix: str
    stop: Stop = Stop.NEWLINE
    max_tokens: int = 64
    n: int = 1
    deadline_ms: float | None = None
    temperature: float = 0.0
    order: Order = Order.AUTO
    window: str = ""
    speculative: bool = False

    def __post_init__(self) -> None:
        for name in ("prefix", "suffix"):
            text = getattr(self, name)
            if not text.isascii() and _LONE_SURROGATE.search(text):  # no encoder takes one; lengths must stay true
                object.__setattr__(self, name, _LONE_SURROGATE.sub("\ufffd", text))
        if self.max_tokens < 1 or self.n < 1:
            raise ValueError(f"max_tokens and n must be at least 1, got {self.max_tokens} and {self.n}")
        if not 0 <= self.temperature < math.inf:  # which a NaN is not
            raise ValueError(f"temperature must be 0 (greedy) or more, got {self.temperature}")
        if self.deadline_ms is not None and math.isnan(self.deadline_ms):
            raise ValueError("deadline_ms must be a number or None, got nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What one answer cost, in tokens and milliseconds.

    `prompt = reused + prefilled` unless the answer was cut short. Every row that the model computed for the answer is in
    exactly one of `prefilled`, `decoded` and `wasted`.
    """

    prompt: int = 0
    reused: int = 0  # of the prompt, found in a cache
    prefilled: int = 0  # of the prompt, computed for this answer
    decoded: int = 0  # tokens fed back to continue the text: the one that ends an answer never is
    drafted: int = 0  # guessed by speculation
    accepted: int = 0  # of those, right
    wasted: int = 0  # computed and thrown away: rejected drafts, abandoned chunks, rows that only fill a recorded pass
    background: int = 0  # prefilled for this document while nobody waited, since its last answer
    queue_ms: float = 0.0
    first_ms: float | None = None  # receipt to first text; None where no text came
    total_ms: float = 0.0
    order: Order = Order.SPM
    window: Window = Window.FULL
    finish: Finish = Finish.END_OF_TEXT


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """The next piece of one alternative: whole code points, and the log-probability of each token behind them.

    `counters` comes with the last chunk of the stream only, whose text may be empty.
    """

    text: str
    logprobs: tuple[float, ...] = ()
    choice: int = 0
    counters: Counters | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """How sure the model must be of what is shown unasked, fitted on held-out code, and what was measured with that."""

    min_logprob: float
    mean_logprob: float
    precision: float | None = None
    coverage: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What the engine is and does; `progress` is the share of the weights read while loading, 0 to 1."""

    state: State
    model: str = ""
    device: str = ""
    dtype: str = ""
    attention: str = ""
    n_positions: int = 0
    max_chars: int = 0  # of prefix and suffix together
    progress: float | None = None
    detail: str = ""  # one line for a person: why it is down, or why these choices
    last: Counters | None = None  # of the completion that ended last, cancelled ones included
    gate: Gate | None = None  # of the model's folder


@runtime_checkable
class Engine(Protocol):
    """A resident model that fills in the middle; every implementation passes one contract test-suite."""

    def complete(self, request: Request, on_stopped: Callable[[Counters], None] | None = None) -> AsyncGenerator[Chunk, None]:
        """Streams the completion; closing the stream cancels it at the next layer, or recorded pass.

        `on_stopped` is told, as soon as they are known, the counters of a stream that was closed before they came in it.
        Raises: EngineError where the engine failed; bad text never does.
        """
        ...

    async def prefetch(self, request: Request) -> None:
        """Asks for the request's prompt to be prefilled while nobody waits; returns at once."""
        ...

    async def forget(self, document: str) -> None:
        """Drops every cache of the document."""
        ...

    async def status(self) -> Status:
        """Tells what the engine is and does, also while it is still loading."""
        ...

    async def aclose(self) -> None:
        """Lets go of the engine; running completions end as cancelled."""
        ...


class EngineError(Exception):
    """Something that kept the engine from answering; the message says what to do."""


class CheckpointError(EngineError):
    """A model folder or file that cannot be used; names file, key, got and wanted."""


class ContextTooLong(EngineError):
    """More tokens than the model has positions, or the cache capacity."""


class OutOfMemory(EngineError):
    """An allocation failed and evicting caches did not help."""


class EngineClosed(EngineError):
    """The engine is gone: closed, crashed or unreachable."""


class EngineKind(StrEnum):
    """Where the model runs."""

    RESIDENT = "resident"  # a process of its own, shared by every editor window; a child where there are no Unix sockets
    CHILD = "child"  # a process of its own for each language server
    IN_PROCESS = "in-process"  # tests, debugging
    SCRIPTED = "scripted"  # replays written completions, no model


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """The user's choices about the engine; none of them may come from a workspace.

    `model` is a folder, a hub name already downloaded, or "shipped"; `script` a JSON file for the scripted engine.
    """

    kind: EngineKind = EngineKind.RESIDENT
    model: str = "shipped"
    device: str = "auto"
    dtype: str = "auto"
    attention: str = "auto"
    n_threads: int | None = None  # None: one per physical core
    budget_bytes: int | None = None  # of caches; None: from free memory
    background_tokens_per_min: int | None = None  # prefilled while nobody waits; None: as many as are useful
    idle_exit_s: float = 1800.0
    script: str | None = None

    @property
    def is_shared(self) -> bool:
        """Whether one process serves every editor window, and outlives them: where there are Unix sockets."""
        return self.kind is EngineKind.RESIDENT and sys.platform != "win32"


def open_engine(options: EngineOptions) -> Engine:
    """Gives the engine the options ask for, without waiting for it: loading shows in `status()`.

    Raises: EngineError where the options name something that does not exist.
    """
    match options.kind:
        case EngineKind.RESIDENT | EngineKind.CHILD:
            from engine.client import CHILD, RESIDENT, ProcessEngine

            return ProcessEngine(options, RESIDENT if options.is_shared else CHILD)
        case EngineKind.IN_PROCESS:
            from engine.local import LocalEngine

            return LocalEngine(options)
        case EngineKind.SCRIPTED:
            from engine.scripted import ScriptedEngine

            if options.script is None:
                raise EngineError("the scripted engine needs a script: a JSON file of written completions")
            return ScriptedEngine.from_file(options.script)
