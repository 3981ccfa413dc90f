"""Whether a suggestion is wanted at a place, and how much of one. `python -m lsp_server.trigger` decides cases in JSON."""

from __future__ import annotations

import json
import re
import sys
from enum import StrEnum

from lsp_server.lexing import ENDS_OF_COMMENT, is_indented, is_prose, line_comment, scan
from lsp_server.place import Place, indent_of
from lsp_server.prompt import is_closers
from lsp_server.syntax import has_grammar
from lsp_server.verdict import Reason


class Mode(StrEnum):
    """How much to suggest."""

    NONE = "none"
    LINE = "line"
    BLOCK = "block"


class When(StrEnum):
    """When something is suggested in a kind of text."""

    OFF = "off"
    ON_DEMAND = "on-demand"
    ON = "on"


_HEADER = re.compile(
    r"(?:async\s+)?(?:def|class|if|elif|else|for|while|try|except|finally|with|match|case)\b.*:\s*\Z", re.DOTALL
)
_WORD_OPENS = re.compile(r"\b(?:do|then|begin|else)\Z|(?:\A|\n)\s*(?:local\s+)?(?:def\s[^\n]*|function\b[^\n]*\))\Z")
_BODY_FOLLOWS = re.compile(r"\A(?:\s+|\s*[)\]>]+\s*)\{\s*\Z")  # behind what a snippet or an editor closed
_IN_WORD = re.compile(r"\w\w")
_SENTENCE_END = re.compile(r"\w[.!?]\s*\Z")
_GOES_ON = re.compile(r"[\s{($=/,:<+%-]\Z")
_LITERAL = re.compile(r"(?:=(?!>)|\breturn|[(,])\s*(?!(?:match|if|loop|unsafe|async|func|move)\b)&?[\w.:*\[\]<>]+\s*\{\Z")
_KEYWORD = re.compile(r"\s*(?:\}\s*else\s+)?(?:if|for|match|while|switch|select|func|fn|impl|type)\b")
_VALUE = re.compile(r"(?:[=:(,\[]|\breturn|\bin|\bof|\bdefault|\?|&&|\|\|)\s*\{\s*\Z")
_NAMES = re.compile(r"^\s*(?:import\b[^{(]*|export\s+(?:type\s+)?|(?:pub\s+)?use\s[^{]*)\{\Z")
_ARRAY = re.compile(r"\bnew\s+[\w.<>]+\s*(?:\[\w*\])+\s*\{\Z")
_CHARACTER = re.compile(r"(?<![\w'])'(?:\\.|[^'\\])'")
_LABEL = re.compile(r"\s*(?:case\b.*|default\s*):\s*\{\s*\Z")
_BRACE_INIT = re.compile(r"\s*(?!(?:struct|class|union|enum|namespace|else|do|try)\b)[\w:<>,&*\s]+[\s&*]\w+\{\Z")


def decide(place: Place, *, invoked: bool, comments: When = When.ON, strings: When = When.ON) -> Mode:
    """Tells how much to suggest."""
    if silence(place, invoked=invoked, comments=comments, strings=strings):
        return Mode.NONE
    return Mode.BLOCK if not place.inside and is_closers(place.rest) and _starts_block(place) else Mode.LINE


def silence(place: Place, *, invoked: bool, comments: When = When.ON, strings: When = When.ON) -> Reason | None:
    """Keeps silent before code, in a word, and in a string or comment that is finished, unless asked by hand."""
    if place.inside:
        in_comment = place.inside == line_comment(place.language) or place.inside in ENDS_OF_COMMENT
        when = comments if in_comment else strings
        if when is When.OFF or (when is When.ON_DEMAND and not invoked):
            return Reason.IN_COMMENT if in_comment else Reason.IN_STRING
        if not invoked and _is_finished(place):
            return Reason.FINISHED
    if invoked:
        return None
    if place.rest.startswith("'") and _CHARACTER.search(place.head[-3:] + "'"):
        return Reason.FINISHED
    if is_closers(place.rest) or _BODY_FOLLOWS.search(place.rest):
        return None
    return Reason.MID_WORD if _IN_WORD.search(place.head[-1:] + place.rest[:1]) else Reason.BEFORE_CODE


def _is_finished(place: Place) -> bool:
    """Tells whether the string or comment around the cursor has its end, and says what it has to say."""
    written = place.prefix[place.inside_since + len(place.inside) :].rpartition("\n")[2]
    if place.inside == line_comment(place.language):
        return bool(_SENTENCE_END.search(written))
    end = ENDS_OF_COMMENT.get(place.inside, place.inside)
    if end not in place.rest or _in_interpolation(place, written):
        return False
    return bool(written.strip(" *!")) and not _GOES_ON.search(written)


def _in_interpolation(place: Place, written: str) -> bool:
    """Tells whether the cursor is in the code that a template or an f-string has in braces."""
    opened = written.rfind("${" if place.inside == "`" else "{")
    if opened <= written.rfind("}") or not place.rest.startswith("}"):
        return False
    return place.inside == "`" or bool(re.search(r"(?i)f[rb]?\Z|rf\Z|\$\Z", place.prefix[: place.inside_since]))


def _starts_block(place: Place) -> bool:
    """Tells whether the cursor is where the body of a block begins that has none yet."""
    if not place.is_blank:
        return _opens(place, place.prefix) and not _has_body(place, indent_of(place.head))
    above = _above_comments(place)
    if not above.strip():
        return False
    opener = above.rpartition("\n")[2]
    return _opens(place, above) and not _has_body(place, _header_indent(place, above, opener))


def _opens(place: Place, text: str) -> bool:
    """Tells whether a text ends with what opens a block of statements."""
    strings = scan(text, place.language).strings
    if strings and strings[-1][1] >= len(text.rstrip()) and text.startswith(line_comment(place.language), strings[-1][0]):
        text = text[: strings[-1][0]]
    text = text.rstrip()
    if is_indented(place.language):
        if not text.endswith(":") or place.language != "python":
            return place.language != "python" and place.is_blank and text.endswith((":", "{", "->", "=", "do", "where", "of"))
        return bool(_HEADER.match(_statement(place, text)))
    if text.endswith("=>") and place.language != "rust":
        return not place.rest.strip()
    if text.endswith("{"):
        if place.language in ("go", "rust") and _LITERAL.search(text) and not _KEYWORD.match(text.rpartition("\n")[2]):
            return False
        line = text.rpartition("\n")[2]
        if (place.language == "cpp" and _BRACE_INIT.match(line)) or _NAMES.search(line) or _ARRAY.search(line):
            return False
        if place.language == "rust" and text.rstrip("{ ").endswith("||"):
            return True  # a closure without parameters
        return not _VALUE.search(text) or bool(re.search(r"=>\s*\{\Z|\)\s*\{\Z", text)) or bool(_LABEL.match(line))
    if has_grammar(place.language) or is_prose(place.language):
        return False
    return bool(_WORD_OPENS.search(text)) or (place.is_blank and len(place.head) > len(indent_of(text.rpartition("\n")[2])))


def _statement(place: Place, text: str) -> str:
    """Gives the last statement of a text, from the line on which its brackets or its continued lines began."""
    opened: list[int] = []
    start = text.rfind("\n") + 1
    while text[:start].endswith("\\\n"):
        start = text.rfind("\n", 0, start - 1) + 1
    for token in scan(text, place.language).tokens:
        if token.text in "([{":
            opened.append(token.offset)
        elif token.text in ")]}" and opened:
            begun = opened.pop()
            if token.offset >= start:
                start = min(start, text.rfind("\n", 0, begun) + 1)
    return "" if opened else text[start:].lstrip()


def _above_comments(place: Place) -> str:
    """Gives what stands above the cursor's line, without the comments and the docstring that a body may begin with."""
    text = place.prefix[: len(place.prefix) - len(place.head)].rstrip()
    comment = re.escape(line_comment(place.language))
    docstring = r"|(?<=\n)[ \t]*[rR]?(?:\"\"\"[\s\S]*?\"\"\"|'''[\s\S]*?''')\Z" if place.language == "python" else ""
    pattern = re.compile(r"(?<=\n)[ \t]*(?:" + comment + r"[^\n]*|/\*(?:(?!\*/)[\s\S])*\*/)\Z" + docstring)
    while match := pattern.search(text):
        text = text[: match.start()].rstrip()
    return text


def _header_indent(place: Place, above: str, opener: str) -> str:
    statement = _statement(place, above) if place.language == "python" else ""
    at = above.rfind(statement) if statement else -1
    return indent_of(above[above.rfind("\n", 0, at) + 1 :]) if at > 0 else indent_of(opener)


def _has_body(place: Place, indent: str) -> bool:
    """Tells whether statements of the block follow: something deeper, before the block's end."""
    following = next(iter(place.lines_below), "")
    return len(indent_of(following)) > len(indent) and not re.match(r"\s*[)\]}]", following)


def main() -> None:
    """Reads cases and writes the mode of each, one a line."""
    for number, line in enumerate(sys.stdin, 1):
        if line.strip():
            try:
                case = json.loads(line)
                mode = decide(Place.of(case), invoked=bool(case.get("invoked")))
            except ValueError as error:
                sys.stderr.write(f"line {number}: {error}\n")
                mode = Mode.NONE
            sys.stdout.write(mode.value + "\n")


if __name__ == "__main__":
    main()
