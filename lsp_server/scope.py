"""Where a block ends: with the brackets that it opened, or where the indentation goes back."""

from __future__ import annotations

import re

from lsp_server.indentation import opens_block
from lsp_server.lexing import OPENERS, is_indented, scan
from lsp_server.place import Place, indent_of
from lsp_server.repeats import declares

_CLAUSES = re.compile(
    r"(?:\}?\s*)?(?:(?:public|private|protected)\s*:"
    r"|(?:elif|else|except|finally|catch|rescue|ensure|elsif|end|done|fi|esac|case|default)\b)"
)
_GOES_ON = re.compile(r"\n\s*(?:\.\w|else\b|catch\b|finally\b|\?\.|&&|\|\|)")  # a next line of the same statement
_ATTRIBUTE = re.compile(r"\s*(?:@[\w.]+(?:\(.*\))?|#\[.*\]|template\s*<[^;{}]*>)\s*")
_ENDS_WITH_WORD = {"lua", "ruby", "julia", "elixir"}
_CLOSES = re.compile(r"\s*(?:[)\]}{]|</|```)")


def scope_end(text: str, place: Place) -> int | None:
    """Gives the offset at which the block that the text goes on with is complete; None while it isn't."""
    ends = [end for end in (_by_brackets(text, place), _by_indentation(text, place)) if end is not None]
    return min(ends, default=None)


def drop_bare_header(text: str, place: Place) -> str:
    """Takes away last lines that only begin something, where nothing below goes on; all only before another statement."""
    lines = text.rstrip().split("\n")
    below = place.lines_below[0] if place.lines_below else ""
    while len(lines) > 1 and _is_bare_header(lines[-1], place) and len(indent_of(below)) <= len(indent_of(lines[-1])):
        lines.pop()
        while len(lines) > 1 and not lines[-1].strip():
            lines.pop()
    alone = len(lines) == 1 and below and place.is_blank and indent_of(below) == place.head and not place.rest.strip()
    if alone and is_indented(place.language) and _is_bare_header(lines[0], place) and not lines[0].startswith("@"):
        return ""
    bare = "\n".join(lines)
    return text if bare == text.rstrip() else bare


def _is_bare_header(line: str, place: Place) -> bool:
    """Tells whether a line says nothing without the next one."""
    opens = is_indented(place.language) and line.rstrip().endswith(":") and opens_block(line, place.language)
    return not place.inside and (opens or _ATTRIBUTE.fullmatch(line) is not None)


def _by_brackets(text: str, place: Place) -> int | None:
    """Ends the statement on the cursor's line with its own brackets, else the block around it with its one."""
    read = scan(text, place.language, place.inside)
    line_start = len(place.prefix) - len(place.head)
    n_outer = sum(1 for each in place.brackets if each.offset < line_start)
    depth = n_here = len(place.brackets)
    first_line = text.find("\n") if "\n" in text else len(text)
    starts_here = not place.is_blank and n_here > n_outer  # the cursor's line opened something
    floor, crossed = n_outer if starts_here else None, False
    for token in read.tokens:
        if token.text not in OPENERS and token.text not in "([{":
            continue
        if not crossed and token.offset > first_line:
            crossed = True
            if floor is None and depth > n_here and not place.is_blank:
                floor = n_here  # the rest of the cursor's line did
        depth += 1 if token.text not in OPENERS else -1
        line_end = text.find("\n", token.offset)
        line_end = len(text) if line_end < 0 else line_end
        ends_here = floor is not None and depth <= floor and token.offset > first_line
        ends_around = floor is None and token.text == "}" and 0 <= depth < n_here and place.brackets[depth].text == "{"
        if not (ends_here or ends_around) or _GOES_ON.match(text, line_end):
            continue
        if not re.search(r"[({\[]\s*$", text[token.offset + 1 : line_end]):
            return line_end
    return None


def _by_indentation(text: str, place: Place) -> int | None:
    if place.inside:
        return _behind_docstring(text, place) if is_indented(place.language) else None
    lines = text.split("\n")
    first = place.head + lines[0]
    base = indent_of(first)
    header = not place.is_blank and opens_block(first, place.language)
    above = place.lines_above
    opener = (above[-1] if above else "") if place.is_blank else place.head
    among_others = (place.is_blank or not lines[0].strip()) and not opens_block(opener, place.language)  # not first in a body
    in_brackets = len(place.brackets) if is_indented(place.language) else 0
    strings = [span for span in scan(text, place.language).strings if "\n" in text[slice(*span)]]
    offset, begun, blank = len(lines[0]), bool(lines[0].strip()), False
    for line in lines[1:]:
        if not line.strip():
            blank = True
            offset += 1 + len(line)
            continue
        indent = indent_of(line)
        if any(start < offset < end for start, end in strings) and is_indented(place.language):
            pass
        elif re.match(r"end\b", line.lstrip()) and len(indent) <= len(base) and begun and place.language in _ENDS_WITH_WORD:
            return offset + 1 + len(line)
        elif in_brackets or (is_indented(place.language) and _CLOSES.match(line)):
            in_brackets = 0
        elif (len(indent) < len(base) or (header and is_indented(place.language) and len(indent) <= len(base))) and begun:
            clause = _CLAUSES.match(line.lstrip())
            if not clause and not _CLOSES.match(line):
                return offset
            if clause and is_indented(place.language) and not header and _is_below(line, place):
                return offset
        elif among_others and blank and begun and len(indent) <= len(base) and declares(line):
            return offset
        begun, blank = True, False
        offset += 1 + len(line)
    return None


def _behind_docstring(text: str, place: Place) -> int | None:
    """Ends the body that a docstring at the cursor begins where a line is less deep than the docstring."""
    read = scan(text, place.language, place.inside)
    end = text.find("\n", read.tokens[0].offset) if len(place.inside) == 3 and read.tokens else -1
    if end < 0:
        return None
    line_start = place.prefix.rfind("\n", 0, place.inside_since) + 1
    base = indent_of(place.prefix[line_start : place.inside_since])
    lines = text[end + 1 :].split("\n")
    for line in lines:
        if line.strip() and len(indent_of(line)) < len(base) and not _CLOSES.match(line):
            return end
        end += 1 + len(line)
    return None


def _is_below(line: str, place: Place) -> bool:
    below = place.lines_below
    return bool(below) and indent_of(below[0]) == indent_of(line)
