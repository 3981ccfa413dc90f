"""What a suggestion writes that already stands behind the cursor on its line, found by counting.

The longest overlap would take a bracket from `print(┃)` + `len(items)`. So each closer that is written is matched
with the bracket it closes, and only one whose bracket is closed behind the cursor already is typed over, the way an
editor types over what it closed by itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from lsp_server.lexing import OPENERS, Token, scan
from lsp_server.place import Open, Place
from lsp_server.prompt import is_closers

_CLOSING_TAG = re.compile(r"</([\w.]*)>[;,)]*\s*")
_SMALL = ")]};:, \t>"


@dataclass(frozen=True, slots=True)
class Draft:
    """A suggestion on its way: its text, and how much of the cursor's line it overwrites behind and before the cursor."""

    text: str
    replace: int = 0
    replace_before: int = 0
    border: int | None = None  # of the text, up to which nothing is overwritten


def type_over(draft: Draft, place: Place) -> Draft:
    """Overwrites what is written again, drops closers that nothing is open for, and ends where the scope would break."""
    if draft.replace:
        return draft
    if (end := _end_of_tag(draft.text, place)) is not None:
        n_over = len(place.rest.rstrip())
        return replace(draft, text=draft.text[:end] + place.rest[:n_over], replace=n_over, border=end)
    text, n_over, end = _match(draft.text, place)
    if n_over:
        border = len(text[:end].rstrip(place.rest[:n_over].strip() + " "))
        return replace(_after_typing_over(text, n_over, end, place), replace_before=draft.replace_before, border=border)
    return Draft(_without_tail(text, place), 0, draft.replace_before)


def insert_only(draft: Draft) -> Draft:
    """Gives up what could only be shown by overwriting."""
    return Draft(draft.text[: draft.border] if draft.replace else draft.text)


def shrink(draft: Draft, place: Place) -> Draft:
    """Neither writes nor overwrites what is the same at the end of both."""
    text, n_over = draft.text, draft.replace
    if n_over and scan(text, place.language, place.inside).inside != place.inside:  # the same letters, but not the same end
        return draft
    while n_over and text and text[-1] == place.rest[n_over - 1]:
        text, n_over = text[:-1], n_over - 1
    bare = text.rstrip()
    if text != bare and "\n" in text[len(bare) :]:
        return draft
    if not n_over and place.rest[:1] in (")", "]", "}") and not place.is_spaced(text):
        text = bare
    return replace(draft, text=text, replace=n_over)


def _match(text: str, place: Place) -> tuple[str, int, int]:
    """Walks over what is written; gives it without what is surplus, and how far it types over the rest, from where on."""
    stack = list(place.brackets)
    heirs: list[Open] = []  # closed and opened again on one line: `} else {`, `], [`
    n_over = end = 0
    surplus: list[int] = []
    for token in _tokens(text, place):
        if token.text in "([{<":
            stack.append(heirs.pop() if heirs and heirs[-1].text == token.text else Open(token.text, "", token.offset))
            continue
        if token.text not in OPENERS and token.text not in (">", "/>"):  # ends the string or comment of the cursor
            if (n := _typed_over(token.text, place.rest, n_over, text[: token.offset])) is not None:
                n_over, end = n, token.offset + len(token.text)
            continue
        opener = OPENERS.get(token.text, "<")
        if not stack or stack[-1].text != opener:
            if token.text in (">", "/>"):
                if (n := _typed_over(token.text, place.rest, n_over)) is not None:
                    n_over, end = n, token.offset + len(token.text)
                continue
            ends_line = not text[token.offset + 1 :].partition("\n")[0].strip(_SMALL)
            if not ends_line or (stack and not _ends_statement(token, text)):
                text = text[: token.offset]
                break
            surplus.append(token.offset)
            continue
        closed = stack.pop()
        if closed.closed_at is None:
            continue
        if not _same_from_here(text, token, place.rest[closed.closed_at :]) and _opens_again(text, token, place):
            heirs.append(closed)
        elif closed.closed_at < len(place.rest) and not place.rest[n_over : closed.closed_at].strip():
            n_over, end = closed.closed_at + 1, token.offset + 1
        else:
            text = text[: token.offset]
            break
    kept = "".join(char for idx, char in enumerate(text) if idx not in surplus) if surplus else text
    if surplus and place.is_blank and not kept.partition("\n")[0].strip():
        return kept.lstrip(), 0, 0  # nothing but what was surplus stood on the cursor's line
    return kept, n_over, end - sum(1 for idx in surplus if idx < end)


def _end_of_tag(text: str, place: Place) -> int | None:
    """Gives where lines that are written inside of an element end, whose closing tag stands behind the cursor."""
    tag = _CLOSING_TAG.fullmatch(place.rest)
    if tag is None or "\n" not in text or place.inside:
        return None
    depth = 0
    for match in re.finditer(rf"<(/?){re.escape(tag[1])}(?![\w.])[^<>]*?(/?)>", text):
        depth += -1 if match[1] else not match[2]
        if depth < 0:
            return match.start()
    return None


def _ends_statement(closer: Token, text: str) -> bool:
    """Tells whether a `)` or `]` stands behind something on its line: one too many, and not the end of what is around."""
    return closer.text != "}" and bool(text[: closer.offset].rpartition("\n")[2].strip())


def _tokens(text: str, place: Place) -> list[Token]:
    """Gives the brackets written, with angle brackets only where one stands behind the cursor."""
    read = scan(text, place.language, place.inside)
    tokens = list(read.tokens)
    if re.match(r"\s*/?>", place.rest) and not place.inside:
        tokens += [
            Token(match.group(), match.start())
            for match in re.finditer(r"/>|(?<![-=])>(?!=)|<(?![-=\s])", text)
            if not any(start <= match.start() < stop for start, stop in read.strings)
        ]
    return sorted(tokens, key=lambda token: token.offset)


def _typed_over(mark: str, rest: str, n_over: int, written: str = "") -> int | None:
    """Gives how far a mark types over the rest of the line, white space before it and the `}` of `${┃}` included."""
    ahead = rest[n_over:]
    n_space = len(ahead) - len(ahead.lstrip()) if mark not in "\"'`" else 0
    if ahead[n_space:].startswith(mark):
        return n_over + n_space + len(mark)
    between = ahead.partition(mark)[0]
    closes_code = between == "}" and written.count("}") > written.count("{")
    if between and (written.endswith(between) or closes_code) and mark in ahead:
        return n_over + len(between) + len(mark)
    if mark == "/>" and ahead[n_space:].startswith(">"):
        return n_over + n_space + 1
    return None


def _same_from_here(text: str, closer: Token, rest: str) -> bool:
    """Tells whether the line goes on as the cursor's line does behind the same closer."""
    line = text[closer.offset :].partition("\n")[0].rstrip()
    return len(rest.rstrip()) > 1 and (line.startswith(rest.rstrip()) or rest.startswith(line))


def _opens_again(text: str, closer: Token, place: Place) -> bool:
    """Tells whether the line of a closer goes on to open the same kind again, before it closes more of it."""
    line = text[closer.offset + 1 :].partition("\n")[0]
    depth = -1
    for token in scan(line, place.language).tokens:
        depth += 1 if token.text not in OPENERS else -1
        if depth == 0 and token.text == OPENERS[closer.text]:
            return True
    return False


def _after_typing_over(text: str, n_over: int, end: int, place: Place) -> Draft:
    """Goes on typing over while both say the same; what else is written stays only where the line has ended."""
    ahead, more = place.rest[n_over:], text[end:]
    n_same = 0
    while n_same < min(len(ahead), len(more)) and ahead[n_same] == more[n_same]:
        n_same += 1
    n_over, end, ahead, more = n_over + n_same, end + n_same, ahead[n_same:], more[n_same:]
    if not ahead.strip():
        return Draft(text, len(place.rest.rstrip()) if more.strip() else n_over)
    if "\n" not in more and (more.strip().startswith(ahead.strip()) or more.rstrip().endswith(ahead.strip())):
        return Draft(text, len(place.rest.rstrip()))
    if not more.strip() or not is_closers(ahead) or more.lstrip()[0] in ";)]}\n" or "\n" in more:
        return Draft(text[:end], n_over)
    return Draft(text.rstrip().removesuffix(ahead.strip()), n_over)


def _without_tail(text: str, place: Place) -> str:
    """Takes away an end that stands behind the cursor already: words, whole or from their middle, and `;`, `:`, `,`."""
    rest = place.rest.strip()
    if not rest:
        return text
    bare = text.rstrip()
    if place.is_prose and bare.endswith(rest) and bare != rest and not OPENERS.get(rest):
        return bare.removesuffix(rest)
    if re.search(r"\w", rest) and len(rest) > 1 and "\n" not in bare:
        at = len(bare) - len(rest) if bare.endswith(rest) else bare.find(rest)
        while at >= 0 and (not _is_border(bare, at, place) or _depth(bare[:at], place) > 0):
            at = bare.find(rest, at + 1)
        if at >= 0:
            return text[:at]
        if rest.startswith(bare.strip()) and bare.strip() and _is_border(bare, len(bare) - len(bare.lstrip()), place):
            n = len(bare.strip())
            if not (rest[n : n + 1].isalnum() and bare[-1].isalnum()) or (re.match(r"\w", place.rest) and len(bare) > 2):
                return ""
    for n in range(min(len(bare), len(rest)), 0, -1):
        tail = bare[-n:]
        if rest.startswith(tail) and _may_go(bare, tail, rest, place):
            return bare[:-n]
    return text


def _depth(text: str, place: Place) -> int:
    return sum(
        -1 if token.text in OPENERS else token.text in "([{" for token in scan(text, place.language, place.inside).tokens
    )


def _is_border(text: str, at: int, place: Place) -> bool:
    """Tells whether a word begins here; in the middle of the user's own word, it may."""
    if re.match(r"\w", place.rest) and re.search(r"\w\Z", place.head):
        return True
    return not (at and text[at].isalnum() and text[at - 1].isalnum() and text[at - 1].isdigit() <= text[at].isdigit())


def _may_go(text: str, tail: str, rest: str, place: Place) -> bool:
    if tail == rest and not place.inside and not re.search(r"[)\]}>]", tail) and _depth(text[: -len(tail)], place) == 0:
        return _is_border(text, len(text) - len(tail), place)
    if place.inside and tail == "}":
        return text.count("{") < text.count("}")
    if not re.search(r"\w", tail):
        return tail[0] in ":;," and not re.search(r"[()\[\]{}]", tail)
    if re.search(r"[()\[\]{}]", tail) and sum(tail.count(each) for each in "([{") != sum(tail.count(each) for each in ")]}"):
        return False
    ends_word = not (tail[-1].isalnum() and rest[len(tail) : len(tail) + 1].isalnum())
    return ends_word and _is_border(text, len(text) - len(tail), place)
