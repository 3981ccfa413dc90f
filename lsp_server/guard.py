"""The last look at a suggestion: the document with it in place may not be more broken than without."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from lsp_server import syntax
from lsp_server.closers import Draft
from lsp_server.lexing import OPENERS, is_prose, scan
from lsp_server.place import Place

_MAX_TRIMS = 12
_MAX_RESTS = 3


def guard(draft: Draft, place: Place, written: Draft) -> Draft | None:
    """Parses the document with the draft in place; where it is more broken than without, trims until it is not.

    What was broken already may stay so: a half-written line seldom parses. But where what follows on the line can be
    read as the end of what is written, and the document is then less broken, it is read so.
    """
    if is_prose(place.language):
        return draft
    after = _n_errors_after(draft, place)
    if not after:
        return draft if after == 0 else _guard_balance(draft, place, written)
    before = syntax.n_errors(place.prefix + place.suffix, place.language)
    assert before is not None  # the longer text could be read
    for shorter in _up_to_rest(written, place):
        if (_n_errors_after(shorter, place) or 0) <= min(before, after - 1):
            return shorter
    n_open = _n_open(draft.text, place) - _n_open(place.rest[: draft.replace], place)
    leaves_open = before and n_open > 0 and "\n" in draft.text  # one error more or less hides in those there were
    if after <= before and not leaves_open:
        return draft
    for trimmed in _fewer_lines(draft, place):
        if (_n_errors_after(trimmed, place) or 0) <= before:
            return trimmed
    opens_one = draft.text.rstrip().endswith(("{", "(", "[")) and n_open == 1 and not leaves_open
    if before and (n_open <= 0 or opens_one) and (opens_one or _keeps_balance(draft, place)):
        return draft  # a parser that was lost before, as in macros, tells less than the brackets do
    return next((each for each in _less_of_line(draft) if (_n_errors_after(each, place) or 0) <= before), None)


def _guard_balance(draft: Draft, place: Place, written: Draft) -> Draft | None:
    """Does what it can where there is no grammar: counts brackets and the ends of strings."""
    before, after = _imbalance(place.prefix + place.suffix, place.language), _imbalance_after(draft, place)
    for shorter in _up_to_rest(written, place):
        if _imbalance_after(shorter, place) <= min(before, after - 1):
            return shorter
    return draft if after <= before else None


def _n_errors_after(draft: Draft, place: Place) -> int | None:
    return syntax.n_errors(_with_draft(draft, place), place.language)


def _up_to_rest(draft: Draft, place: Place) -> Iterator[Draft]:
    """Gives the drafts that end where the rest of the cursor's line is written again."""
    rest = place.rest.rstrip()
    if not rest.strip() or "\n" in draft.text:
        return
    at = draft.text.rfind(rest)
    for _ in range(_MAX_RESTS):
        if at <= 0:
            return
        yield replace(draft, text=draft.text[:at])
        at = draft.text.rfind(rest, 0, at)


def _fewer_lines(draft: Draft, place: Place) -> Iterator[Draft]:
    lines = draft.text.split("\n")
    n_blank = next((idx for idx, line in enumerate(lines) if line.strip()), 0)
    whole = [n_lines for n_lines in _balanced(lines, place) if n_blank < n_lines < len(lines)]
    for n_lines in whole[::-1][:_MAX_TRIMS]:
        yield Draft("\n".join(lines[:n_lines]).rstrip(), 0, draft.replace_before)


def _less_of_line(draft: Draft) -> Iterator[Draft]:
    first = draft.text.partition("\n")[0].rstrip()
    borders = [match.end() for match in re.finditer(r"[)\]};](?!\s*=>)", first)]
    for border in borders[::-1][:_MAX_TRIMS]:
        yield replace(draft, text=first[:border])


def _balanced(lines: list[str], place: Place) -> list[int]:
    """Gives after how many lines as many brackets are closed as were opened."""
    ends, depth, line_end = [], 0, 0
    tokens = iter((*scan("\n".join(lines), place.language, place.inside).tokens, None))
    token = next(tokens)
    for n_lines, line in enumerate(lines, 1):
        line_end += len(line) + 1
        while token and token.offset < line_end:
            depth += 1 if token.text in "([{" else -1 if token.text in OPENERS else 0
            token = next(tokens)
        if depth <= 0:
            ends.append(n_lines)
    return ends


def _n_open(text: str, place: Place) -> int:
    """Counts the brackets that a text opens more than it closes."""
    tokens = scan(text, place.language, place.inside).tokens
    return sum(1 if token.text in "([{" else -1 for token in tokens if token.text in "([{}])")


def _keeps_balance(draft: Draft, place: Place) -> bool:
    """Tells whether as many brackets are left open, or closed for nothing, as before."""
    return _imbalance_after(draft, place) <= _imbalance(place.prefix + place.suffix, place.language)


def _imbalance_after(draft: Draft, place: Place) -> int:
    return _imbalance(_with_draft(draft, place), place.language)


def _with_draft(draft: Draft, place: Place) -> str:
    return place.prefix[: len(place.prefix) - draft.replace_before] + draft.text + place.suffix[draft.replace :]


def _imbalance(text: str, language: str) -> int:
    depth: list[str] = []
    n_wrong = 0
    pairs = {")": "(", "]": "[", "}": "{"}
    read = scan(text, language)
    for start, end in read.strings:
        n_wrong += text[start] in "\"'" and (end == start + 1 or text[end - 1] != text[start])
    for token in read.tokens:
        if token.text not in pairs:
            depth.append(token.text)
        elif depth and depth[-1] == pairs[token.text]:
            depth.pop()
        else:
            n_wrong += 1
    return n_wrong + len(depth)
