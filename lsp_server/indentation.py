"""Indentation as the document has it: its tabs or spaces, its width, and the first line against the rest.

A model repeats the indentation that stands before the cursor already, or writes a block as if it began at the margin.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lsp_server.lexing import is_indented, scan
from lsp_server.place import BY_TABS, Place, indent_of

OPENS_BLOCK = re.compile(r"[{(\[]\s*$|=>\s*$")
_OPENS_INDENTED = re.compile(r"[:{(\[]\s*$")
_CONTINUES = re.compile(r"[(\[]\s*\Z|\w\(?\{\s*\Z|=\s*\{\s*\Z|\breturn\b[^;]*\{\s*\Z")  # a continuation has its own depth
_ALIGNED = re.compile(r"\t+ +\S")
_GOES_ON = re.compile(r"(?:el\w+|end|fi|done|esac|rescue|ensure|catch|except|finally|until|when)\b")  # the statement around
_LABEL = re.compile(r"(?:case\b|default\s*:|\w+:\s*$)")
_CLOSERS = ("}", ")", "]", "</", "```")
_CLAUSE = re.compile(r"\s*(elif|else|except|finally)\b.*:")
_HEADS = {
    "elif": r"(?:if|elif)\b",
    "else": r"(?:if|elif|for|while|try|except|async for)\b",
    "except": r"(?:try|except)\b",
    "finally": r"(?:try|except|else)\b",
}


def opens_block(line: str, language: str) -> bool:
    """Tells whether the next line belongs deeper than this one."""
    if is_indented(language) and line.lstrip().startswith("#"):
        return False
    line = re.sub(r"\s(?:#|//).*$", "", line) if not re.search(r"[\"'`]", line) else line
    return bool((_OPENS_INDENTED if is_indented(language) else OPENS_BLOCK).search(line))


def wanted_indent(place: Place) -> str | None:
    """Gives the indentation that a new statement has here; None where nothing stands above."""
    above = place.lines_above
    if not above:
        return None
    return indent_of(above[-1]) + (unit_of(place) if opens_block(above[-1], place.language) else "")


def fit(text: str, place: Place) -> str:
    """Gives the text in the document's own indentation."""
    written, *more = text.split("\n")
    first = _fit_first(written, place)
    if not any(line.strip() for line in more) or place.inside in ('"""', "'''", "`"):
        return "\n".join([first, *more])
    base = len(place.head) + len(indent_of(first)) if place.is_blank else len(indent_of(place.head))
    base -= before_clause(first, place)
    lead = len(indent_of(_in_unit_kind([written], place)[0]))
    fitted = _in_unit_kind(more, place)
    begun = next((len(indent_of(line)) for line in fitted if line.strip()), 0)
    is_flat = is_indented(place.language) and begun <= lead and opens_block(first, place.language)
    if place.is_blank and lead > 1 and lead >= len(place.head) and not is_flat:  # each line came with its indentation
        fitted = [_moved(line, base - lead, place) for line in fitted]
    else:
        fitted = _fit_more(first, fitted, place, base=base)
    verbatim = _in_backticks(text, place)
    return "\n".join(
        [first, *(old if idx in verbatim else new for idx, (old, new) in enumerate(zip(more, fitted, strict=True), 1))]
    )


def _in_backticks(text: str, place: Place) -> set[int]:
    """Gives which lines begin in a string that keeps its indentation."""
    if "`" not in text:
        return set()
    spans = [span for span in scan(text, place.language, place.inside).strings if text[span[0]] == "`"]
    return {line for start, end in spans for line in range(text.count("\n", 0, start) + 1, text.count("\n", 0, end) + 1)}


def before_clause(text: str, place: Place) -> int:
    """Tells how many characters of indentation before the cursor are too many for what is written there.

    Editors indent a new line like the one above; a `}` or an `else:` belongs to the line that opened its block.
    """
    if not place.is_blank or not place.head or place.inside:
        return 0
    target: str | None = None
    if text[:1] in ("}", ")", "]") and text[:1]:
        opened = [each for each in place.brackets if each.closed_at is None]
        target = opened[-1].indent if opened else None
    elif is_indented(place.language) and (clause := _CLAUSE.match(text)):
        keyword = clause[1]
        above = place.lines_above
        target = None if above and opens_block(above[-1], place.language) else _head_above(above, keyword, place.head)
    if target is None or not place.head.startswith(target):
        return 0
    return len(place.head) - len(target)


def _head_above(lines_above: Sequence[str], keyword: str, head: str) -> str | None:
    """Gives the indentation of the nearest statement above that a clause can belong to, seen from the cursor's."""
    depth = len(head) + 1
    for line in reversed(lines_above):
        indent = indent_of(line)
        if len(indent) < depth:
            depth = len(indent)
            if re.match(_HEADS[keyword], line.lstrip()):
                return indent
    return None


def _fit_first(line: str, place: Place) -> str:
    """Takes away indentation that stands before the cursor already, and one blank too many."""
    lead = indent_of(line)
    if not lead and (place.head or not is_indented(place.language)):
        return line
    if not place.is_blank:
        in_columns = place.head.endswith("  ") and len(lead) > 1  # both halves of a gap that aligns something
        return line.lstrip() if place.head[-1:].isspace() and place.inside != "`" and not in_columns else line
    if place.inside:
        return line
    lead = _in_unit_kind([line], place)[0][: -len(line.lstrip()) or None] if line.strip() else lead
    wanted = wanted_indent(place)
    if not place.head:
        if (
            wanted
            and (place.unit or not lead)
            and len(lead) < len(wanted)
            and opens_block(place.lines_above[-1], place.language)
        ) or (wanted is not None and len(lead) == len(wanted) + 1):
            lead = wanted
        return lead + line.lstrip()
    deliberate = wanted is not None and not opens_block(place.lines_above[-1], place.language)
    if deliberate and len(lead) > 1:
        return line.lstrip()
    if wanted is not None and place.head + lead == wanted:
        return lead + line.lstrip()
    if wanted is not None and len(place.head) < len(wanted) and len(place.head + lead) <= len(wanted) + 1:
        return wanted[len(place.head) :] + line.lstrip()
    return line.lstrip()


def _fit_more(first: str, more: list[str], place: Place, *, base: int) -> list[str]:
    """Moves the lines after the first to the level that the first one has, and each by the one blank it is off."""
    opening = (place.head if not place.is_blank else "") + first
    deeper = next((len(indent_of(line)) for line in more if line.strip()), 0)
    following = next((line.strip() for line in more if line.strip()), "")
    unit = len(unit_of(place))
    if opens_block(opening, place.language) and (width := _other_width(more, deeper, place, base=base)):
        return [_char(place) * (len(indent_of(line)) // width * unit) + line.lstrip() for line in more]
    shift, step = 0, unit
    if (
        base
        and not deeper
        and place.is_blank
        and not is_indented(place.language)
        and more[0].strip()
        and not following.startswith((*_CLOSERS, "#"))
        and not _LABEL.match(following)
        and not _GOES_ON.match(following)
    ):
        n_inside = next((idx for idx, line in enumerate(more) if line.lstrip().startswith(_CLOSERS)), len(more))
        n_inside = n_inside if opens_block(opening, place.language) else 0
        return [_moved(line, base + unit * (idx < n_inside), place) for idx, line in enumerate(more)]
    if opens_block(opening, place.language) and following[:1] not in ("}", ")", "]"):
        if deeper <= base and base and (place.is_blank or deeper < base) and not (deeper == base and _LABEL.match(following)):
            shift = (
                base if deeper >= min(unit, 2) or not is_indented(place.language) else base + unit
            )  # written as if at the margin
            step = deeper or unit
        elif place.unit and deeper > base and not _CONTINUES.search(opening):
            step = deeper - base
        if deeper <= base and not shift and is_indented(place.language) and place.unit:
            shift = unit
    lines = []
    n_open = opening.count("(") - opening.count(")")
    for before, line in zip([opening, *more], more, strict=False):
        indent = len(indent_of(line))
        if line.strip():
            if shift:
                indent += shift
            if place.unit and step > 1 and step != unit and indent > base and (indent - base) % step in (0, 1):
                indent = base + (indent - base) // step * unit
            elif _is_one_off(indent, line, unit, base) and n_open <= 0 and not _is_aligned(before, line):
                indent -= 1
            if indent != len(indent_of(line)):
                line = _char(place) * indent + line.lstrip()
        n_open += line.count("(") - line.count(")")
        lines.append(line)
    return lines


def _other_width(more: list[str], deeper: int, place: Place, *, base: int) -> int | None:
    """Gives the width of a level where every line has its depth in the document, but by another width than the document's."""
    unit = len(place.unit)
    if not base or not deeper or unit < 2 or base % unit or not place.is_blank:
        return None
    level = base // unit
    width, odd = divmod(deeper, level + 1)
    indents = {len(indent_of(line)) for line in more if line.strip()}
    told = level * width in indents and not odd and not any(indent % width for indent in indents)
    return width if told and width != unit and width in (2, 3, 4, 8) else None


def _moved(line: str, shift: int, place: Place) -> str:
    indent = len(indent_of(line)) + shift
    return _char(place) * indent + line.lstrip() if shift and line.strip() else line


def _is_one_off(indent: int, line: str, unit: int, base: int) -> bool:
    return unit > 1 and base % unit == 0 and indent % unit == 1 and indent > 1 and not line.lstrip().startswith("*")


def _is_aligned(before: str, line: str) -> bool:
    """Tells whether a line goes on with the one before, and so has the depth of something in that."""
    return bool(re.search(r"[-+*/%|&=?:<>.(\\]\s*\Z", before) or re.match(r"\s*[-+*/%|&=?:<>.)\]`]", line))


def _in_unit_kind(lines: list[str], place: Place) -> list[str]:
    """Turns spaces into tabs or tabs into spaces, where the document has the other."""
    if unit_of(place) == "\t":
        width = min((len(indent) for line in lines if (indent := indent_of(line)).startswith("  ")), default=4)
        width = width if width in (2, 3, 4, 8) else 4
        if width == 8 and len(indent_of(place.head)) > 1:  # the cursor's own depth, in fours
            width = 4
        return [_in_tabs(line, width) for line in lines]
    if place.unit:
        return [re.sub(r"^[ \t]*\t[ \t]*", lambda match: match.group().replace("\t", place.unit), line) for line in lines]
    return lines


def _in_tabs(line: str, width: int) -> str:
    bare = line.lstrip(" \t")
    if _ALIGNED.match(line):
        return line
    n_tabs, more = divmod(len(line[: len(line) - len(bare)].expandtabs(width)), width)
    if bare.startswith("*"):  # of a comment, which stands a blank deeper
        return "\t" * n_tabs + " " * more + bare
    return "\t" * (n_tabs + (more > 0)) + bare


def unit_of(place: Place) -> str:
    """Gives one level of the document's indentation, or its language's where it has none yet."""
    if place.unit:
        return place.unit
    return "\t" if place.language in BY_TABS else " " * (4 if is_indented(place.language) else 2)


def _char(place: Place) -> str:
    return unit_of(place)[0]
