"""Answers from memory: what the model wrote, what of it was shown, and what of that the text typed since agrees with.

What was shown is kept beside what was written, because the filters between them may have changed it: a user who types
into what is shown, or takes a word of it, must find the rest unchanged. It is served again without filters while the
closers behind the cursor stay the same; where the editor adds one, the completion is filtered anew.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from lsp_server.documents import Edit, Query
from lsp_server.prompt import Prompt
from lsp_server.unwanted import Unwanted
from lsp_server.verdict import Reason

_N_REMEMBERED = 8  # per document: enough to come back to the last few places without the engine


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What a user sees: text to insert at an offset, replacing nothing. Its rest, once part was typed, bears the same id."""

    id: str
    text: str
    offset: int


@dataclass(frozen=True, slots=True)
class Completion:
    """What was written for a prompt, and how sure the model was of each token, with the offset at which that ends."""

    id: str
    prompt: Prompt
    text: str
    logprobs: tuple[float, ...] = ()
    ends: tuple[int, ...] = ()
    is_cut: bool = False  # by the deadline: asked again at its own place, the engine may say more

    @property
    def mean_logprob(self) -> float:
        return sum(self.logprobs) / len(self.logprobs) if self.logprobs else float("-inf")

    def after(self, prompt: Prompt) -> Completion | None:
        """Gives what is left of the completion once part of it was typed; None where the typing disagrees.

        An empty completion answers its own prompt again: there was nothing to say.
        """
        typed = prompt.typed_since(self.prompt)
        if typed is None or not self.text.startswith(typed):
            return None
        rest = self.text[len(typed) :]
        ends = tuple(end - len(typed) for end in self.ends)
        return replace(self, prompt=prompt, text=rest, ends=ends) if rest or not typed else None

    def recalled_at(self, prompt: Prompt) -> Completion | None:
        """Gives what is left where that is all there is to say."""
        return None if self.is_cut and self.prompt == prompt else self.after(prompt)


@dataclass(frozen=True, slots=True)
class Served:
    """Completions as they were shown, best first, and where."""

    query: Query
    choices: tuple[Completion, ...]

    def after(self, prompt: Prompt) -> tuple[Completion, ...]:
        """Gives what is left of those that the typing since agrees with, unchanged."""
        rests = (each.recalled_at(prompt) for each in self.choices if each.prompt.closers == prompt.closers)
        return tuple(rest for rest in rests if rest)


@dataclass(slots=True)
class _Memory:
    """One document's: the newest first."""

    completions: deque[Completion] = field(default_factory=lambda: deque(maxlen=_N_REMEMBERED))
    served: deque[Served] = field(default_factory=lambda: deque(maxlen=_N_REMEMBERED))
    visible: Served | None = None
    unwanted: Unwanted = field(default_factory=Unwanted)


class Suggestions:
    """Owns the last completions of each document. Typing into one, deleting back and typing again all find it.

    What was dismissed is not offered by itself again; asked for by hand, whatever fits comes back first, and only where it
    is what stands there already is the engine asked for alternatives.
    """

    def __init__(self) -> None:
        self._memories: dict[str, _Memory] = {}
        self._ids = itertools.count(1)

    def new_id(self) -> str:
        return str(next(self._ids))

    def remember(self, uri: str, completions: Iterable[Completion]) -> None:
        """Takes in what was written, best first."""
        memory = self._memory(uri)
        memory.completions.extendleft(reversed(list(completions)))

    def serve(self, query: Query, choices: tuple[Completion, ...]) -> tuple[Suggestion, ...]:
        """Notes what is shown from here on; nothing, where there are no choices."""
        memory = self._memory(query.document.uri)
        memory.visible = Served(query, choices) if choices else None
        if memory.visible and not (memory.served and memory.served[0].after(choices[0].prompt) == choices):
            memory.served.appendleft(memory.visible)
        for each in choices:
            memory.unwanted.allow(each.prompt.prefix, each.text)
        return tuple(Suggestion(each.id, each.text, query.offset) for each in choices)

    def shown(self, uri: str, prompt: Prompt, *, invoked: bool) -> tuple[Completion, ...]:
        """Gives what was shown and still fits, as it was shown."""
        memory = self._memory(uri)
        if invoked and memory.visible and (rest := memory.visible.after(prompt)):
            return rest if len(memory.visible.choices) > 1 else ()  # else this is the place to look for alternatives
        fitting = (rest for each in memory.served if (rest := each.after(prompt)))
        if invoked:
            return tuple(_distinct(itertools.chain.from_iterable(fitting)))
        newest = next(fitting, ())[:1]
        return tuple(each for each in newest if not memory.unwanted.is_dismissed(each.prompt.prefix, each.text))

    def recall(self, uri: str, prompt: Prompt, *, invoked: bool) -> tuple[Completion, ...] | None:
        """Gives what the newest completion that agrees has left to say; None where the engine must be asked."""
        memory = self._memory(uri)
        rest = next((rest for each in memory.completions if (rest := each.recalled_at(prompt))), None)
        if rest is None:
            return None
        if invoked:
            return (rest,) if rest.text and not (memory.visible and memory.visible.after(prompt)) else None
        return (rest,)

    def find(self, suggestion_id: str) -> tuple[Served, Completion] | None:
        """Gives what was served under an id, whole: where, and the one of the choices."""
        for memory in self._memories.values():
            for served in memory.served:
                for choice in served.choices:
                    if choice.id == suggestion_id:
                        return served, choice
        return None

    def dismiss(self, suggestion_id: str) -> None:
        """Keeps a suggestion, and those beside it, from being offered again by itself."""
        if found := self.find(suggestion_id):
            memory = self._memory(found[0].query.document.uri)
            memory.visible = None
            for each in found[0].choices:
                memory.unwanted.dismiss(each.prompt.prefix, each.text)

    def edited(self, uri: str, edit: Edit | None) -> None:
        """Takes note of what is typed and deleted, for what was deleted is not offered back."""
        self._memory(uri).unwanted.edited(edit)

    def why_unwanted(self, query: Query, choice: Completion) -> Reason | None:
        """Tells why a suggestion is not offered by itself; None where it may be."""
        return self._memory(query.document.uri).unwanted.why(choice.prompt.prefix, query.offset, choice.text)

    def accept(self, suggestion_id: str) -> None:
        """Takes a suggestion off the screen: it is text now."""
        if found := self.find(suggestion_id):
            self._memory(found[0].query.document.uri).visible = None

    def forget(self, uri: str) -> None:
        self._memories.pop(uri, None)

    def _memory(self, uri: str) -> _Memory:
        return self._memories.setdefault(uri, _Memory())


def _distinct(completions: Iterable[Completion]) -> Iterator[Completion]:
    seen: set[str] = set()
    for each in completions:
        if each.text not in seen:
            seen.add(each.text)
            yield each
