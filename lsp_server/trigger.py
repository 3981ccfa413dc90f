"""Whether a suggestion is wanted at a place, and how much of one."""

from __future__ import annotations

from enum import StrEnum

from lsp_server.prompt import Prompt


class Mode(StrEnum):
    """How much to suggest."""

    NONE = "none"
    LINE = "line"


def decide(prompt: Prompt, *, invoked: bool) -> Mode:
    """Keeps silent before text that is not closers, which includes the middle of a word, unless asked by hand."""
    return Mode.LINE if invoked or prompt.ends_line else Mode.NONE
