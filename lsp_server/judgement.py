"""What is asked for at a place and what of the answer is shown: trigger and filters under the user's settings."""

from __future__ import annotations

from dataclasses import replace

from lsp_server.documents import Query
from lsp_server.place import Place
from lsp_server.postprocess import Limits, is_past_block, postprocess
from lsp_server.settings import Settings
from lsp_server.suggestions import Completion
from lsp_server.trigger import Mode, When, decide


def mode_at(place: Place, query: Query, settings: Settings) -> Mode:
    """Tells how much to suggest, if anything."""
    return decide(place, invoked=query.invoked, comments=When(settings.comments), strings=When(settings.strings))


def filtered(completions: tuple[Completion, ...], place: Place, settings: Settings) -> tuple[Completion, ...]:
    """Gives the completions as they are shown, each once."""
    shown: dict[str, Completion] = {}
    for each in completions:
        mode = Mode.BLOCK if "\n" in each.text else Mode.LINE  # a line's completion ends before one
        draft = postprocess(each.text, place, mode, Limits(max_chars=settings.max_chars, overwrites=False))
        if draft:
            shown.setdefault(draft.text.strip(), replace(each, text=draft.text))
    return tuple(shown.values())


def block_end(text: str, place: Place) -> int | None:
    """Finds where a block that is being written has its end; None while it may still go on."""
    return len(text) if is_past_block(text, place) else None


def next_line_end(text: str) -> int | None:
    """Finds the end of the first line with something on it; None while that may still go on."""
    end = 0
    for line in text.split("\n")[:-1]:
        if line.strip():
            return end + len(line)
        end += len(line) + 1
    return None
