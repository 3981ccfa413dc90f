"""Answers from memory: completions that the text typed since still agrees with."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from lsp_server.prompt import Prompt

_N_REMEMBERED = 8  # per document: enough to come back to the last few places without the engine


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What a user sees: text to insert at an offset, replacing nothing."""

    text: str
    offset: int


@dataclass(frozen=True, slots=True)
class Completion:
    """What the model wrote for a prompt."""

    prompt: Prompt
    text: str

    def rest_after(self, prompt: Prompt) -> str | None:
        """Gives what is left of the completion once part of it was typed; None where the typing disagrees.

        An empty completion answers its own prompt again: there was nothing to say.
        """
        typed = prompt.typed_since(self.prompt)
        if typed is None or not self.text.startswith(typed):
            return None
        rest = self.text[len(typed) :]
        return rest if rest or not typed else None


class Suggestions:
    """Owns the last completions of each document. Typing into one, deleting back and typing again all find it."""

    def __init__(self) -> None:
        self._completions: dict[str, deque[Completion]] = {}

    def remember(self, uri: str, completion: Completion) -> None:
        self._completions.setdefault(uri, deque(maxlen=_N_REMEMBERED)).appendleft(completion)

    def recall(self, uri: str, prompt: Prompt) -> str | None:
        """Gives what the newest completion that agrees has left to say; None where the engine must be asked."""
        rests = (completion.rest_after(prompt) for completion in self._completions.get(uri, ()))
        return next((rest for rest in rests if rest is not None), None)

    def forget(self, uri: str) -> None:
        self._completions.pop(uri, None)
