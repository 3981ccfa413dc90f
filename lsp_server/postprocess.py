"""From what the model wrote to what a user sees: an ordered tuple of small pure filters, then the guard.

Each filter takes a draft and its place and gives a draft back; an empty text is no suggestion. What is left is
inserted at the cursor and overwrites only what it says again. `python -m lsp_server.postprocess` runs them on cases,
one a line in JSON.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

from lsp_server import indentation, repeats, scope
from lsp_server.closers import Draft, insert_only, shrink, type_over
from lsp_server.guard import guard
from lsp_server.lexing import ENDS_OF_COMMENT, line_comment, scan
from lsp_server.place import Place
from lsp_server.trigger import Mode

Filter = Callable[[Draft, Place], Draft]

# Either spelling (SantaCoder hyphenates), whole or cut off at the end of the text.
_SPECIAL_TOKEN = re.compile(
    r"<\|(?:endoftext|end_of_text|begin_of_text|file_separator|im_start|im_end|eot_id|cursor|end|user|assistant|system)\|>"
    r"|<\|?fim[-_](?:prefix|middle|suffix|pad)\|?>|\s?<(?:EOT|PRE|SUF|MID)>"
    r"|<(?:reponame|filename|file_sep|repo_name|gh_stars|jupyter_\w+|issue_\w+|commit_\w+|empty_output)>|</?s>\s*$"
    r"|<(?:\|?fim(?:[-_][a-z]*)?\|?|\|[a-z_|]*|fi|fil\w{1,5}|rep\w{1,5}|gh_\w*|jup\w*_?\w*|commit_\w*)$"
)
_INVISIBLE = re.compile("[\u200b\u2060\ufeff]")  # but joiners, which emoji and scripts need
_FENCE_START = re.compile(r"\A\s*```[\w+-]*\n")
_FENCE_END = re.compile(r"\n```[ \t]*(?=\n|\Z)")
_MAX_BLANK_LINES = 2  # between definitions, as Python has them
_MAX_LINES = 80  # no suggestion is as long, and each filter's time is bounded


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may be shown, and whether text may be overwritten."""

    max_lines: int | None = None
    max_chars: int | None = None
    overwrites: bool = True


def postprocess(raw: str, place: Place, mode: Mode, limits: Limits | None = None) -> Draft | None:
    """Runs the filters in order; None where nothing is left to show."""
    outcome = run_filters(raw, place, mode, limits)
    return outcome if isinstance(outcome, Draft) else None


def run_filters(raw: str, place: Place, mode: Mode, limits: Limits | None = None) -> Draft | str:
    """Gives what is left to show, or the name of the filter that left nothing."""
    limits = limits or Limits()
    draft = Draft(raw)
    written = draft
    for each in FILTERS[mode]:
        written = draft if each is type_over else written
        draft = each(draft, place)
        if not draft.text.strip():
            return each.__name__
    if not draft.replace and not written.text.startswith(draft.text.rstrip()):  # something went from its middle
        return run_filters(draft.text, place, mode, limits)
    draft = _limited(draft if limits.overwrites else insert_only(draft), limits)
    guarded = guard(draft, place, written)
    if guarded is None or not guarded.text.strip():
        return guard.__name__
    if guarded.text == draft.text:
        return guarded
    if repeats.cut_next_lines(guarded.text, place) != guarded.text:
        return repeats.cut_next_lines.__name__
    text = scope.drop_bare_header(guarded.text, place) if mode is Mode.BLOCK else guarded.text
    return replace(guarded, text=text) if text else scope.drop_bare_header.__name__


def is_past_block(raw: str, place: Place) -> bool:
    """Tells whether what is written goes on after the block's end, so that the rest is written for nobody."""
    draft = Draft(raw)
    for each in takewhile(lambda each: each is not close_scope, FILTERS[Mode.BLOCK]):
        draft = each(draft, place)
    end = scope.scope_end(draft.text, place)
    return end is not None and bool(draft.text[end:].strip())


def clean(draft: Draft, place: Place) -> Draft:
    """Cuts at a special token, half of one, and U+FFFD, half of a character; LF only, for Neovim splits on nothing else."""
    lines = draft.text.replace("\r\n", "\n").replace("\r", "\n").split("\n", _MAX_LINES)
    text = "\n".join(lines[:_MAX_LINES]).partition("\ufffd")[0]
    if "<" in text:
        text = _SPECIAL_TOKEN.split(text, maxsplit=1)[0]
    return replace(draft, text=_INVISIBLE.sub("", text))


def drop_fence(draft: Draft, place: Place) -> Draft:
    """Unwraps code that came as Markdown, and ends where its fence does."""
    if place.language == "markdown" or place.inside or "```" not in draft.text:
        return draft
    text = _FENCE_START.sub("", draft.text)
    strings = scan(text, place.language).strings
    ends = (match.start() for match in _FENCE_END.finditer(text))
    end = next((end for end in ends if not any(start < end < stop for start, stop in strings)), None)
    return replace(draft, text=text[:end])


def drop_blank_start(draft: Draft, place: Place) -> Draft:
    """Begins on the cursor's line where that is empty, unless a blank line above a new definition is what is written."""
    if not place.is_blank or place.inside or not re.match(r"\s*\n", draft.text):
        return draft
    above = place.lines_above
    if not place.head and above and not indentation.opens_block(above[-1], place.language):
        n_above = len(place.prefix) - len(place.prefix.rstrip("\n")) - 1
        n_written = len(draft.text) - len(draft.text.lstrip("\n"))
        return replace(draft, text=draft.text[max(0, n_written - max(0, _MAX_BLANK_LINES - n_above)) :])
    first, _, more = draft.text.lstrip("\n").partition("\n")
    while not first.strip() and more:
        first, _, more = more.partition("\n")
    return replace(draft, text=first + ("\n" + more if more else ""))


def first_line(draft: Draft, place: Place) -> Draft:
    """Keeps one line; on an empty one at the margin, the first that says something."""
    text = draft.text.lstrip("\n") if place.is_blank and not place.head else draft.text
    return replace(draft, text=text.partition("\n")[0])


def one_line_before_code(draft: Draft, place: Place) -> Draft:
    """Keeps one line where code follows on the cursor's, unless it is written again at the end of more."""
    rest = place.rest.strip()
    if not rest.strip(")]};:,>\"'`/* \t"):
        return draft
    says_rest = rest.startswith((")", "]", "}", "</")) and any(
        line.lstrip().startswith(rest) for line in draft.text.split("\n")[1:]
    )
    return draft if says_rest else first_line(draft, place)


def drop_typed_start(draft: Draft, place: Place) -> Draft:
    """Takes away the start of the line, or of its last word, that stands before the cursor and was written again."""
    head = place.head.lstrip()
    text = draft.text.lstrip(" \t")
    bare = head.rstrip()
    is_mark = bool(place.inside) and bare.startswith((place.inside, "*")) and not re.search(r"[\w\s]", bare)
    if is_mark and text.startswith(bare):
        return replace(draft, text=text[len(bare) :].lstrip(" ") if head != bare else text[len(bare) :])
    if len(bare) > 2 and re.search(r"\w", bare) and text.startswith(bare) and text != bare:
        cut = len(head) if text.startswith(head) else len(bare)
        in_word = bare[-1].isalnum() and text[len(bare)].isalnum()
        if not in_word or (text.startswith(head) and (head != bare or " " in bare)):
            return replace(draft, text=text[cut:])
    word = re.search(r"[^\W\d]\w+\Z", place.head)
    if word and draft.text.startswith(word[0]) and re.match(r"\w", draft.text[len(word[0]) :]) and not place.inside:
        return replace(draft, text=draft.text[len(word[0]) :])
    path = re.search(r"[^\W\d]\w*(?:(?:\.|::|->|\?\.)\w*)*\(?\s*\Z", place.head)
    if path and len(path[0]) > 2 and draft.text.startswith(path[0]) and re.search(r"[.(:>]", path[0]):
        return replace(draft, text=draft.text[len(path[0]) :])
    return draft


def end_with_comment(draft: Draft, place: Place) -> Draft:
    """Ends a comment that the cursor is in where the comment ends, for the code below it was not asked for."""
    comment = line_comment(place.language)
    if place.inside != comment:
        return draft
    first, *more = draft.text.split("\n")
    n_more = next((idx for idx, line in enumerate(more) if not line.lstrip().startswith(comment)), len(more))
    return replace(draft, text="\n".join([first, *more[:n_more]]))


def fit_indentation(draft: Draft, place: Place) -> Draft:
    text = indentation.fit(draft.text, place)
    return replace(draft, text=text, replace_before=indentation.before_clause(text, place))


def strip_trailing_space(draft: Draft, place: Place) -> Draft:
    """Strips each line's end; one blank stays before code that follows on the line."""
    text = re.sub(r"[ \t]+(?=\n)", "", draft.text) if not place.inside else draft.text
    bare = text.rstrip()
    spaced = text[len(bare) :].startswith(" ") and "\n" not in text[len(bare) :]
    follows = place.rest[draft.replace :]
    in_brackets = follows[:1] in (")", "]", "}") and place.is_spaced(text)
    in_quotes = follows[:1] in ('"', "'", "`") and bare[-1:] in tuple("=+,:?&|")
    if spaced and follows[:1].strip() and (follows[0] not in ")]};:,\"'`" or in_brackets or in_quotes):
        bare += " "
    return replace(draft, text=bare)


def close_scope(draft: Draft, place: Place) -> Draft:
    end = scope.scope_end(draft.text, place)
    return draft if end is None else replace(draft, text=draft.text[:end])


def end_string(draft: Draft, place: Place) -> Draft:
    """Ends at the line's end inside of a string that can't go past it; and with the line of a mark that stands behind."""
    if not place.inside or place.inside == line_comment(place.language):
        return draft
    mark = ENDS_OF_COMMENT.get(place.inside, place.inside)
    read = scan(draft.text, place.language, place.inside)
    ends = bool(read.tokens) and read.tokens[0].text == mark
    if not ends:
        return draft if place.inside not in ('"', "'") else replace(draft, text=draft.text.partition("\n")[0])
    if not place.rest.lstrip().startswith(mark) or len(mark) == 1:
        return draft
    line_end = draft.text.find("\n", read.tokens[0].offset)
    return draft if line_end < 0 else replace(draft, text=draft.text[:line_end])


def _on_text(each: Callable[[str, Place], str]) -> Filter:
    def on_draft(draft: Draft, place: Place) -> Draft:
        text = each(draft.text, place)
        return draft if text == draft.text else replace(draft, text=text, replace=0)

    on_draft.__name__ = each.__name__
    on_draft.__doc__ = each.__doc__
    return on_draft


_REPEATS = (
    _on_text(repeats.cut_loop_in_line),
    _on_text(repeats.cut_rewritten),
    _on_text(repeats.cut_next_lines),
    _on_text(repeats.cut_repeated_blocks),
    _on_text(repeats.drop_repeated_lines),
)
_FOR_LINE = (
    clean,
    drop_fence,
    drop_blank_start,
    first_line,
    drop_typed_start,
    fit_indentation,
    *_REPEATS,
    type_over,
    strip_trailing_space,
    _on_text(repeats.cut_next_lines),
    shrink,
)
_FOR_BLOCK = (
    clean,
    drop_fence,
    drop_blank_start,
    one_line_before_code,
    end_string,
    end_with_comment,
    drop_typed_start,
    fit_indentation,
    *_REPEATS,
    close_scope,
    type_over,
    strip_trailing_space,
    _on_text(scope.drop_bare_header),
    _on_text(repeats.cut_next_lines),
    shrink,
)
FILTERS: dict[Mode, tuple[Filter, ...]] = {Mode.LINE: _FOR_LINE, Mode.BLOCK: _FOR_BLOCK}


def _limited(draft: Draft, limits: Limits) -> Draft:
    """Keeps whole lines, and of a line too long whole words."""
    text, max_chars = "\n".join(draft.text.split("\n")[: limits.max_lines]), limits.max_chars
    if max_chars and len(text) > max_chars:
        text = text[: max_chars + 1]
        text = text.rpartition("\n")[0] or text[:max_chars].rpartition(" ")[0] or text[:max_chars]
    return draft if text == draft.text else Draft(text.rstrip(), 0, draft.replace_before)


def main() -> None:
    """Reads cases and writes what is shown for each, one a line in JSON."""
    for number, line in enumerate(sys.stdin, 1):
        if line.strip():
            try:
                answer = _answer(json.loads(line))
            except ValueError as error:
                sys.stderr.write(f"line {number}: {error}\n")
                answer = None
            sys.stdout.write(json.dumps(answer) + "\n")


def _answer(case: Any) -> dict[str, Any] | None:
    place = Place.of(case)
    if not isinstance(case.get("raw"), str):
        raise ValueError("a case must hold the text `raw`")
    shown = postprocess(case["raw"], place, Mode(case.get("mode", "line")))
    if shown is None:
        return None
    return {"text": shown.text, "replace": shown.replace, "replace_before": shown.replace_before}


if __name__ == "__main__":
    main()
