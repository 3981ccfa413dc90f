"""What a person sees while typing, and what is in the file afterwards."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest

from tests.e2e.home import Home
from tests.e2e.vscode.code_server import Window

pytestmark = pytest.mark.e2e

_numbers = itertools.count()


@dataclass(frozen=True)
class Case:
    """A document with its cursor `┃`, and steps: typed text, keys in `<>`, what is drawn then in `[]`.

    `[]` alone is no ghost text. The file is saved at the end and compared with `saved` and with what is drawn.
    """

    name: str
    before: str
    steps: tuple[str, ...]
    saved: str
    suffix: str = ".py"


AREA = "def area(width, height):\n    "
CASES = (
    Case(
        "drawn and accepted whole",
        f"{AREA}┃\n",
        ("return ", "[width * height]", "<Tab>", "[]"),
        f"{AREA}return width * height\n",
    ),
    Case(
        "typed through",
        f"{AREA}┃\n",
        ("return ", "[width * height]", "wid", "[th * height]", "<Tab>"),
        f"{AREA}return width * height\n",
    ),
    Case(
        "backspace into what was typed of it",
        f"{AREA}┃\n",
        ("return ", "[width * height]", "widt", "[h * height]", "<Backspace><Backspace>", "[dth * height]", "<Tab>"),
        f"{AREA}return width * height\n",
    ),
    Case(
        "something else is typed",
        f"{AREA}┃\n",
        ("return ", "[width * height]", "x", "[]"),
        f"{AREA}return x\n",
    ),
    Case(
        "accepted word by word, the rest stays",
        f"{AREA}┃\n",
        (
            "return ",
            "[width * height]",
            "<Control+ArrowRight>",
            "[ * height]",
            "<Control+ArrowRight>",
            "[* height]",
            "<Tab>",
            "[]",
        ),
        f"{AREA}return width * height\n",
    ),
    Case(
        "one undo takes back what was accepted and keeps what was typed",
        f"{AREA}┃\n",
        ("return ", "[width * height]", "<Tab>", "[]", "<Control+z>"),
        f"{AREA}return \n",
    ),
    Case(
        "a block, accepted by lines",
        "def block()┃\n",
        (":", "[\n    one = 1\n    two = 2\n    return one + two]", "<Alt+End>", "<Alt+End>", "<Tab>", "[]"),
        "def block():\n    one = 1\n    two = 2\n    return one + two\n",
    ),
    Case(
        "a block in a document with CRLF",
        "def block()┃\r\n\r\nx = 1\r\n",
        (":", "[\n    one = 1\n    two = 2\n    return one + two]", "<Tab>", "[]"),
        "def block():\r\n    one = 1\r\n    two = 2\r\n    return one + two\r\n\r\nx = 1\r\n",
    ),
    Case("not ASCII", "┃\n", ("naïve = ", "[café + 1]", "<Tab>"), "naïve = café + 1\n"),
    Case(
        "astral characters before the cursor and in the suggestion",
        "s = '🙂🙂'┃\n",
        (" + ", "['🦀' + tail]", "<Tab>"),
        "s = '🙂🙂' + '🦀' + tail\n",
    ),
    Case(
        "behind tabs",
        "if a:\n\tif b:\n\t\t┃\n",
        ("return ", "[width * height]", "<Tab>"),
        "if a:\n\tif b:\n\t\treturn width * height\n",
    ),
    Case("a bracket that the editor closed", "┃\n", ("print(", "[width, height]", "<Tab>"), "print(width, height)\n"),
    Case("text behind the cursor", "x = f(┃) # sums\n", ("total = ", "[]"), "x = f(total = ) # sums\n"),
    Case(
        "Tab indents before the column where the suggestion begins",
        "while True:\n┃\n",
        ("<Alt+\\>", "[    step()]", "<Tab>", "[step()]", "<Tab>", "[]"),
        "while True:\n    step()\n",
    ),
    Case(
        "the next of several, and the one before",
        "┃\n",
        (
            "area = ",
            "[width * height]",
            "<Alt+]>",
            "[height * width]",
            "<Alt+[>",
            "[width * height]",
            "<Alt+]>",
            "<Tab>",
        ),
        "area = height * width\n",
    ),
    Case("Escape hides it", f"{AREA}┃\n", ("return ", "[width * height]", "<Escape>", "[]"), f"{AREA}return \n"),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_typing(case: Case, shared_window: Window, home: Home) -> None:
    window = shared_window
    before, _, after = case.before.partition("┃")
    path = home.write(f"file{next(_numbers)}{case.suffix}", before + after)
    window.open(path)
    window.go(before.count("\n"), len(after.splitlines()[0]) if after.splitlines() else 0)
    for step in case.steps:
        if step.startswith("["):
            window.sees(step[1:-1])
        elif step.startswith("<"):
            window.press(*step[1:-1].split("><"))
        else:
            window.type(step)
    window.shows(case.saved.replace("\r\n", "\n").expandtabs(4))
    window.save()
    assert path.read_bytes().decode() == case.saved
