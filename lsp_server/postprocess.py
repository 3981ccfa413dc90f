"""From what the model wrote to what a user sees: an ordered tuple of small pure filters.

Each filter takes the text and its surroundings and gives the text back, shorter or as it was; an empty text is
no suggestion. What is left is inserted at the cursor and replaces nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from lsp_server.prompt import Prompt

Filter = Callable[[str, Prompt], str]

# Either spelling (SantaCoder hyphenates), whole or cut off at the end of the text.
_SPECIAL_TOKEN = re.compile(
    r"<\|endoftext\|>|<fim[-_](?:prefix|middle|suffix|pad)>|<(?:reponame|filename|gh_stars|jupyter_\w+|issue_\w+|commit_\w+|empty_output)>"
    r"|<(?:fim[-_][a-z]*|\|[a-z|]*)$"
)
_QUOTES = "\"'`"
_OPENERS = {")": "(", "]": "[", "}": "{"}
_BRACKET = re.compile(r"[()\[\]{}]")
_STRING = re.compile(r"\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'")
_TAILS = ("*/", "/>", ">", ":", ";", ",")


def postprocess(text: str, prompt: Prompt) -> str:
    """Runs the filters in order."""
    for each in FILTERS:
        text = each(text, prompt)
        if not text:
            break
    return text


def first_line(text: str, prompt: Prompt) -> str:
    """Keeps one line; LF only, for Neovim splits on nothing else."""
    return re.split(r"[\r\n]", text, maxsplit=1)[0]


def cut_special_tokens(text: str, prompt: Prompt) -> str:
    """Cuts at a special token that was written out, at half of one, and at U+FFFD, half of a character."""
    return _SPECIAL_TOKEN.split(text, maxsplit=1)[0].split("\ufffd", 1)[0]


def cut_closed_quote(text: str, prompt: Prompt) -> str:
    """Ends a string where the quote that closes it already stands behind the cursor."""
    quote = prompt.closers[:1]
    line = prompt.prefix.rpartition("\n")[2]
    if not quote or quote not in _QUOTES or line.count(quote) % 2 == 0:
        return text
    return re.split(rf"(?<!\\){quote}", text, maxsplit=1)[0]


def drop_surplus_closers(text: str, prompt: Prompt) -> str:
    """Drops closing brackets that nothing is open for, counting: `print(┃)` keeps all of `len(items)`.

    One that more code follows ends the text there: what comes after it was written for another nesting.
    """
    n_open = _count_open(prompt)
    kept: list[str] = []
    for idx, char in enumerate(text):
        if char in "([{":
            n_open[char] += 1
        elif char in _OPENERS:
            opener = _OPENERS[char]
            if n_open[opener] <= 0:
                if text[idx + 1 :].strip(")]};:, \t"):
                    break
                continue
            n_open[opener] -= 1
        kept.append(char)
    return "".join(kept)


def drop_repeated_tail(text: str, prompt: Prompt) -> str:
    """Drops an end that already stands behind the cursor: `;`, `:`, `,`, `>`, `/>`, `*/`."""
    rest = prompt.closers.strip()
    for tail in _TAILS:
        if rest.endswith(tail) and text.rstrip().endswith(tail):
            return text.rstrip().removesuffix(tail)
    return text


def strip_trailing_space(text: str, prompt: Prompt) -> str:
    return text.rstrip()


def drop_repeated_next_line(text: str, prompt: Prompt) -> str:
    """Keeps silent where the finished line would say what the next one already says; lone closers may repeat."""
    line = (prompt.prefix.rpartition("\n")[2] + text).strip()
    next_line = next((each.strip() for each in prompt.suffix.splitlines() if each.strip()), "")
    return "" if line == next_line and re.search(r"\w", line) else text


FILTERS: tuple[Filter, ...] = (
    first_line,
    cut_special_tokens,
    cut_closed_quote,
    drop_surplus_closers,
    drop_repeated_tail,
    strip_trailing_space,
    drop_repeated_next_line,
)


def _count_open(prompt: Prompt) -> dict[str, int]:
    """Counts the brackets open at the cursor that nothing behind it closes: neither its line nor lines of closers below."""
    n_open = dict.fromkeys("([{", 0)
    for char in _BRACKET.findall(_STRING.sub("", prompt.prefix)):
        if char not in _OPENERS:
            n_open[char] += 1
        else:
            n_open[_OPENERS[char]] = max(0, n_open[_OPENERS[char]] - 1)
    behind = prompt.closers
    for line in prompt.suffix.splitlines():
        if line.strip(")]};:, \t"):
            break
        behind += line
    for char in behind:
        if char in _OPENERS:
            n_open[_OPENERS[char]] -= 1
    return n_open
