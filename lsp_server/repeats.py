"""What a suggestion says that was said already: in itself, just above the cursor, or below it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import takewhile

from lsp_server.place import Place, indent_of

_DECLARES = re.compile(
    r"\s*(?:@\w|(?:export |default |pub(?:\(\w+\))? |public |private |protected |static |async |abstract |final |override )*"
    r"(?:(?:def|class|interface|struct|enum|trait|type|module|namespace|fun|sub)\s+[\w${]|(?:function\*?|fn|func|impl)(?=[\s<]*[\w(<&'*$])))"
)
_METHOD = re.compile(r"\s*(?:[\w<>\[\],.*&]+\s+)*[\w~]+\s*\([^;{}]*\)[^;{}=]*\{\s*$")
_NOT_METHOD = re.compile(r"\s*(?:if|for|while|switch|catch|else|return|match|do|try|with)\b")
_KEYED = {"yaml", "toml", "json", "jsonc", "ini", "properties", "dotenv", "css", "scss", "less"}
_PATTERN = re.compile(r"\d+|\b[A-Za-z]\b|(?<=[a-z])[A-Z]\b")
_LOOP = re.compile(r"(.{2,60}?)\1{4,}")
_WORD = re.compile(r"\w+")
_IN_QUOTES = re.compile(r"\".*\"|`.*`")
_LONG_RUN = re.compile(r"(\w)\1{24,}")


def declares(line: str) -> bool:
    """Tells whether a line begins a function, a type or the like."""
    if _DECLARES.match(line):
        return True
    return line.rstrip().endswith("{") and bool(_METHOD.match(line)) and not _NOT_METHOD.match(line)


def cut_rewritten(text: str, place: Place) -> str:
    """Ends where the function just above or the next one below would be written again."""
    lines = _whole_lines(text, place)
    lines_above = place.lines_above[-60:]
    near = place.lines_below[:40]
    below = [line for line in near if declares(line)][:1]
    starts_below = not text.partition("\n")[0].strip()
    if below and (starts_below or declares(place.head)) and _signature(place.head) == _signature(below[0]):
        body = near[near.index(below[0]) + 1 :]
        if body and body[0].strip() == next((line.strip() for line in text.split("\n") if line.strip()), ""):
            return ""
    for idx, line in enumerate(lines):
        if not line.strip() or not declares(line) or (starts_below and not idx):
            continue
        if (
            len(line.strip()) > 5
            and not line.strip().startswith("@")
            and line.rstrip() in _siblings([*lines_above, *lines[:1]] if idx else lines_above, line)
        ):
            return _up_to(text, _without_attributes(lines, idx))
        if (
            below
            and not line.strip().startswith("@")
            and _signature(line) == _signature(below[0])
            and _same_indent(line, below[0])
        ):
            return _up_to(text, idx if place.lines_below[0] == below[0] else _without_attributes(lines, idx))
    return text


def cut_next_lines(text: str, place: Place) -> str:
    """Ends where the lines below would be said again, also nearly or as far as they were written."""
    below = place.lines_below
    if not below or place.rest.strip(")]};:,>\"'` \t"):
        return text
    lines = _whole_lines(text, place)
    target = below[0]
    bare = _bare(target)
    arm = _arm(target) if place.language == "rust" else None
    if not re.search(r"\w|```", target):
        start = _where_all_follows(lines, below)
        return text if start is None else _up_to(text, start)
    for idx, line in enumerate(lines):
        if not line.strip() or (not idx and not text.partition("\n")[0].strip()):
            continue
        is_last = not any(each.strip() for each in lines[idx + 1 :])
        if _is_near(_bare(line), bare) and (
            _same_indent(line, target)
            or (idx == 0 and not _is_deeper(line, target))
            or is_last
            or _follows(lines[idx + 1 :], below[1:])
        ):
            return _up_to(text, idx)
        if idx and arm and line.startswith(arm) and _arm(line) == arm:
            return _up_to(text, idx)
        if idx and place.language in _KEYED and _same_indent(line, target) and _key(line) and _key(line) == _key(target):
            return _up_to(text, idx)
        if idx and is_last and (_is_begun(line, target) or _is_out_of_reach(line, target)):
            return _up_to(text, idx)
    return text


def _where_all_follows(lines: list[str], below: Sequence[str]) -> int | None:
    """Gives where the last lines begin that are word for word those below, of which one alone would say nothing."""
    solid = [idx for idx, line in enumerate(lines) if line.strip()]
    for n_before, start in enumerate(solid):
        rest = [lines[idx] for idx in solid[n_before:]]
        if start and len(rest) > 1 and rest == list(below[: len(rest)]) and _has_words(rest):
            return start
    return None


def drop_repeated_lines(text: str, place: Place) -> str:
    """Drops each line that repeats its predecessor; lines without a letter, like closers, may."""
    lines = _whole_lines(text, place)
    above = place.lines_above
    before = above[-1].strip() if above else ""
    kept: list[int] = []
    for idx, line in enumerate(lines):
        bare = line.strip()
        if bare and bare == before and re.search(r"[^\W\d_]", bare) and not _may_repeat(bare):
            if idx == 0:
                return ""
            continue
        kept.append(idx)
        before = bare or before
    if len(kept) == len(lines):
        return text
    pieces = text.split("\n")
    return "\n".join(pieces[idx] for idx in kept)


def cut_repeated_blocks(text: str, place: Place) -> str:
    """Ends where a run of lines comes a second time, or the same pattern of a line or block a fourth."""
    lines = [line.rstrip() for line in text.split("\n")]
    whole = [place.head + lines[0], *lines[1:]]
    solid = [idx for idx, line in enumerate(whole) if line and not line.isspace()]
    said = [whole[idx] for idx in solid]
    above = [line.rstrip() for line in place.lines_above[-12:]]
    for size in range(2, min(12, len(said)) + 1):
        if above[-size:] == said[:size] and _has_words(said[:size]):
            return ""
        for start in _runs(said, size, size):
            if _has_words(said[start : start + size]):
                return _up_to(text, solid[start + size])
    shapes = _PATTERN.sub("0", "\n".join(said)).split("\n")
    for size in range(1, 9):
        for start in _runs(shapes, size, size * (6 if size == 1 else 3)):
            if _has_words(shapes[start : start + size]):
                return _up_to(text, solid[start + size])
    return text


def _runs(lines: list[str], size: int, length: int) -> Iterator[int]:
    """Gives where each `length` lines begin that are the same as those `size` lines on."""
    n_same = 0
    for idx in range(len(lines) - size):
        n_same = n_same + 1 if lines[idx] == lines[idx + size] else 0
        if n_same >= length:
            yield idx - length + 1


def cut_loop_in_line(text: str, place: Place) -> str:
    """Ends before a line that ends saying one thing over and over, as a model does that has lost its way."""
    lines = text.rstrip().split("\n")
    for idx, line in list(enumerate(lines))[-2:]:  # a loop is where the text was cut off
        end = line[-240:]
        loop = _LOOP.search(end)
        tail = end[loop.end() :].strip() if loop else ""
        stuck = loop and re.search(r"[^\W\d_]", loop[1]) and loop[1].strip().startswith(tail) and len(loop[0]) >= 20
        if stuck or _LONG_RUN.search(end):
            return _up_to(text, idx)
    return text


def _whole_lines(text: str, place: Place) -> list[str]:
    first, *more = text.split("\n")
    return [place.head + first, *more]


def _up_to(text: str, idx: int) -> str:
    return "\n".join(text.split("\n")[:idx]).rstrip() if idx else ""


def _without_attributes(lines: list[str], idx: int) -> int:
    """Gives where the attributes and decorators begin that belong to a line."""
    while idx and re.match(r"\s*(?:@\w|#\[)", lines[idx - 1]):
        idx -= 1
    return idx


def _siblings(lines_above: Sequence[str], line: str) -> set[str]:
    """Gives the lines above of the same scope: another class may have a method of the same name."""
    depth = len(indent_of(line))
    scope = takewhile(lambda each: len(indent_of(each)) >= depth, reversed(lines_above))
    return {each.rstrip() for each in scope}


def _signature(line: str) -> str:
    return re.sub(r"\s+", " ", line.strip()).rstrip(" {:")


def _same_indent(line: str, other: str) -> bool:
    return indent_of(line) == indent_of(other)


def _is_deeper(line: str, other: str) -> bool:
    return len(indent_of(line)) > len(indent_of(other))


def _bare(line: str) -> str:
    """Leaves of a line what it says: no blanks, one kind of quotes, no last `;` or `,`."""
    return "".join(line.split()).replace("'", '"').rstrip(";,")


def _is_near(one: str, two: str) -> bool:
    """Tells whether two bare lines say the same but for a few letters that one leaves out."""
    if len(one) == len(two):
        return bool(one) and one == two
    if len(one) > len(two):
        one, two = two, one
    if len(one) < max(12, 0.9 * len(two), len(two) - 4) or re.sub(r"\D", "", one) != re.sub(r"\D", "", two):
        return False
    if len(two) - len(one) > 2 and _WORD.findall(one) != _WORD.findall(two) and not _IN_QUOTES.search(two):
        return False  # another name is another line, but a slip is not
    letters = iter(two)
    return all(char in letters for char in one)


def _is_begun(line: str, target: str) -> bool:
    begun, whole = line.strip(), target.strip()
    return whole.startswith(begun) and len(begun) >= max(3, len(whole) // 2) and _same_indent(line, target)


def _key(line: str) -> str | None:
    """Gives the key that a line sets, in a language where a key is set once."""
    match = re.match(r"\s*[\"']?([\w.-]+)[\"']?\s*[:=]", line)
    return match and match[1]


def _arm(line: str) -> str | None:
    """Gives the pattern of a match's arm, which stands there once."""
    match = re.match(r"(\s*[^=]+?)\s*=>", line)
    return match and match[1]


def _is_out_of_reach(line: str, target: str) -> bool:
    """Tells whether a line would return just before the one below does."""
    return all(re.match(r"\s*return\b", each) for each in (line, target)) and _same_indent(line, target)


def _follows(lines: list[str], below: Sequence[str]) -> bool:
    said = [line.strip() for line in lines if line.strip()]
    return bool(said and below) and said[0] == below[0].strip()


def _has_words(lines: list[str]) -> bool:
    return any(re.search(r"[^\W\d_]", line) for line in lines)


def _may_repeat(line: str) -> bool:
    return bool(re.fullmatch(r"end|else|fi|done|esac|\*|</\w+>|(?:nil|null|none|undefined|true|false),?", line, re.IGNORECASE))
