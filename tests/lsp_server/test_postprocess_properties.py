"""What holds of every suggestion, whatever is written and wherever."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from lsp_server.documents import Document, Query
from lsp_server.place import Place
from lsp_server.postprocess import Limits, postprocess
from lsp_server.prompt import cut
from lsp_server.repeats import cut_next_lines
from lsp_server.suggestions import Completion, Suggestions
from lsp_server.syntax import n_errors
from lsp_server.text import Text
from lsp_server.trigger import Mode
from tests.data.postprocess import GROUPS
from tests.data.postprocess_hunted import GROUPS as HUNTED
from tests.lsp_server.places import split

CASES = [case for cases in (GROUPS | HUNTED).values() for case in cases]
MAX_CHARS = 8192
IN_SERVER = Limits(overwrites=False)
_PIECES = [
    "a",
    "b(",
    ")",
    "]",
    "[",
    "{",
    "}",
    "'",
    '"',
    ";",
    ",",
    ":",
    " ",
    "\n",
    "\n    ",
    "return x",
    "if a:",
    "b.c",
    "#",
    "/*",
]


@st.composite
def over_runs(draw: st.DrawFn):
    """A place that somebody thought of, and what was written there with something amiss at its end."""
    case = draw(st.sampled_from(CASES))
    raw = case.raw[: draw(st.integers(0, len(case.raw)))] if draw(st.booleans()) else case.raw
    before, after = split(case.marked)
    amiss = draw(st.sampled_from(["", raw, after[:40], *_PIECES])) + draw(st.sampled_from(["", *_PIECES]))
    return Place.at(case.language, before, after), raw + amiss, Mode(case.mode)


@settings(max_examples=400, deadline=None)
@given(over_runs())
def test_only_the_cursor_s_line_is_overwritten_and_only_what_is_said_again(at) -> None:
    place, raw, mode = at
    shown = postprocess(raw, place, mode)
    if shown:
        assert 0 <= shown.replace <= len(place.rest)
        assert 0 <= shown.replace_before <= len(place.head)
        assert place.head[len(place.head) - shown.replace_before :].strip() == ""
        assert not {"\r", "\ufffd"} & set(shown.text)
        assert mode is Mode.BLOCK or "\n" not in shown.text


@settings(max_examples=400, deadline=None)
@given(over_runs())
def test_what_parses_still_does(at) -> None:
    place, raw, mode = at
    shown = postprocess(raw, place, mode)
    if shown and n_errors(place.prefix + place.suffix, place.language) == 0:
        start = len(place.prefix) - shown.replace_before
        document = place.prefix[:start] + shown.text + place.suffix[shown.replace :]
        assert n_errors(document, place.language) == 0


@settings(max_examples=400, deadline=None)
@given(over_runs())
def test_the_line_below_is_not_said_again(at) -> None:
    place, raw, mode = at
    shown = postprocess(raw, place, mode, IN_SERVER)
    if shown:
        assert cut_next_lines(shown.text, place) == shown.text


@settings(max_examples=300, deadline=None)
@given(over_runs(), st.integers(0, 60))
def test_typing_into_what_is_shown_leaves_its_rest_whatever_the_filters_would_make_of_it(at, n_typed) -> None:
    place, raw, mode = at
    shown = postprocess(raw, place, mode, IN_SERVER)
    if shown is None:
        return
    typed, rest = shown.text[:n_typed], shown.text[n_typed:]
    text = Text.of(place.prefix + place.suffix)
    memory = Suggestions()
    document = Document(uri="u", language=place.language, version=1, text=text)
    query = Query(document, len(place.prefix))
    memory.serve(query, (Completion("1", cut(text, query.offset, MAX_CHARS), shown.text),))
    further = cut(Text.of(place.prefix + typed + place.suffix), query.offset + len(typed), MAX_CHARS)
    again = memory.shown("u", further, invoked=False)
    assert [each.text for each in again] == ([rest] if rest else [])
