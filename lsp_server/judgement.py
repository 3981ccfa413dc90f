"""What is asked for at a place and what of the answer is shown: trigger, confidence and filters under the user's settings."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lsp_server.confidence import Thresholds, sure_part
from lsp_server.documents import Document, Query
from lsp_server.place import MAX_AFTER, MAX_BEFORE, STEP, Place
from lsp_server.postprocess import Limits, is_past_block, run_filters
from lsp_server.privacy import matches_any, path_of, refusal
from lsp_server.settings import Settings
from lsp_server.suggestions import Completion
from lsp_server.trigger import Mode, When, decide, silence
from lsp_server.verdict import SHOWN, Reason, Verdict

_MAX_FIRST_TOKEN = 24  # characters


@dataclass(frozen=True, slots=True)
class Judged:
    """The completions as they are shown, each once, and why there are no more."""

    choices: tuple[Completion, ...] = ()
    verdict: Verdict = SHOWN


def why_off(document: Document, settings: Settings) -> Verdict | None:
    """Tells why nothing is suggested in a document, wherever its cursor is."""
    if document.private:
        return Verdict(Reason.PRIVATE, refusal(document.uri, settings.private_globs) or "it reads like one of keys")
    if not settings.enabled:
        return Verdict(Reason.DISABLED)
    language = document.language
    if language in settings.disabled_languages or (settings.enabled_languages and language not in settings.enabled_languages):
        return Verdict(Reason.LANGUAGE_OFF, language)
    glob = matches_any(settings.disabled_globs, path_of(document.uri)) if settings.disabled_globs else None
    return Verdict(Reason.FILE_OFF, f"{glob} in disabled_globs") if glob else None


def place_at(query: Query) -> Place:
    """Reads the place of a request. More of the document than a prompt's window may hold: that can begin inside a string."""
    text, offset = query.document.text, query.offset
    before = text.slice(max(0, offset - MAX_BEFORE - 1) // STEP * STEP, offset)
    return Place.at(query.document.language, before, text.slice(offset, min(text.n_chars, offset + MAX_AFTER + 1)))


def why_silent(place: Place, query: Query, settings: Settings) -> Verdict | None:
    """Tells why nothing is suggested at a place."""
    reason = silence(place, invoked=query.invoked, comments=When(settings.comments), strings=When(settings.strings))
    return Verdict(reason) if reason else None


def mode_at(place: Place, query: Query, settings: Settings) -> Mode:
    """Tells how much to suggest, if anything."""
    mode = decide(place, invoked=query.invoked, comments=When(settings.comments), strings=When(settings.strings))
    return Mode.LINE if mode is Mode.BLOCK and settings.max_lines == 1 else mode


def thresholds(fitted: Thresholds | None, query: Query, settings: Settings) -> Thresholds | None:
    """Gives what a completion is held to: the user's numbers, else those fitted for the model; none where asked by hand."""
    if query.invoked or not settings.gate:
        return None
    least = fitted or Thresholds(float("-inf"), float("-inf"))
    own_minimum, own_mean = settings.gate_min_logprob, settings.gate_mean_logprob
    return Thresholds(least.minimum if own_minimum is None else own_minimum, least.mean if own_mean is None else own_mean)


def judge(
    completions: tuple[Completion, ...],
    place: Place,
    held_to: Thresholds | None,
    settings: Settings,
    *,
    failure: Reason | None = None,
) -> Judged:
    """Gives the completions as they are shown; where none is, why not the first: `failure` where nothing was written."""
    limits = Limits(max_lines=settings.max_lines, max_chars=settings.max_chars, overwrites=False)
    shown: dict[str, Completion] = {}
    verdicts = []
    for each in completions:
        sure = sure_part(each, held_to)
        if not each.text.strip():
            verdicts.append(Verdict(failure or Reason.NOTHING_WRITTEN))
        elif not sure.completion.text.strip():
            verdicts.append(Verdict(Reason.LOW_CONFIDENCE, sure.detail))
        else:
            mode = Mode.BLOCK if "\n" in sure.completion.text else Mode.LINE  # a line's completion ends before one
            outcome = run_filters(sure.completion.text, place, mode, limits)
            if isinstance(outcome, str):
                verdicts.append(Verdict(Reason.FILTERED, f"by {outcome}"))
            else:
                shown.setdefault(outcome.text.strip(), replace(each, text=outcome.text))
                verdicts.append(Verdict(Reason.SHOWN, sure.detail))
    first = SHOWN if shown else next(iter(verdicts), Verdict(failure or Reason.NOTHING_WRITTEN))
    return Judged(tuple(shown.values()), first)


def block_end(text: str, place: Place) -> int | None:
    """Finds where a block that is being written has its end; None while it may still go on."""
    _, is_more, last_line = text.rpartition("\n")
    if not is_more or len(last_line.strip()) > _MAX_FIRST_TOKEN:
        return None  # an end shows at the beginning of a line
    return len(text) if is_past_block(text, place) else None


def next_line_end(text: str) -> int | None:
    """Finds the end of the first line with something on it; None while that may still go on."""
    end = 0
    for line in text.split("\n")[:-1]:
        if line.strip():
            return end + len(line)
        end += len(line) + 1
    return None
