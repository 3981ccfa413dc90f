"""Ghost text in a real Neovim: drawn, typed through, backspaced into, accepted, undone, saved."""

from __future__ import annotations

import pytest

from tests.e2e.home import Home
from tests.e2e.nvim.neovim import Neovim

pytestmark = pytest.mark.e2e

AREA = "def area(width, height):\n    return\n"


@pytest.fixture
def area(nvim: Neovim) -> Neovim:
    """A file with a suggestion on the screen."""
    nvim.edit(nvim.home.write("area.py", AREA), "return")
    nvim.type(" ")
    nvim.wait_for_ghost("width * height")
    return nvim


def test_ghost_text_is_drawn_accepted_and_saved(area):
    area.keys("<Tab>")
    area.wait_for_text("def area(width, height):\n    return width * height")
    assert area.saved() == b"def area(width, height):\n    return width * height\n"


def test_ghost_text_stays_while_it_is_typed(area):
    for n_typed, char in enumerate("width * "):
        area.type(char)
        area.wait_for_ghost("width * height"[n_typed + 1 :])


def test_what_was_typed_through_is_not_doubled_by_an_accept(area):
    area.type("wid")
    area.keys("<Tab>")  # before the 200 ms after which Neovim asks again
    area.wait_for_text("def area(width, height):\n    return width * height")


def test_a_key_that_disagrees_takes_ghost_text_off_at_once(area):
    area.type("x")
    area.wait_for_ghost(None)
    assert area.line() == "    return x"


def test_backspace_brings_ghost_text_back(area):
    area.type("width")
    area.wait_for_ghost(" * height")
    area.keys("<BS><BS>")
    area.wait_for_ghost("th * height")
    area.keys("<Tab>")
    area.wait_for_text("def area(width, height):\n    return width * height")


def test_an_accepted_suggestion_is_undone_in_one_step_and_what_was_typed_stays(area):
    area.type("wi")
    area.wait_for_ghost("dth * height")
    area.keys("<Tab>")
    area.wait_for_text("def area(width, height):\n    return width * height")
    area.type(" + 1")
    area.keys("<Esc>u")
    area.wait_for_text("def area(width, height):\n    return width * height")
    area.keys("u")
    area.wait_for_text("def area(width, height):\n    return wi")
    area.keys("<C-r>")
    area.wait_for_text("def area(width, height):\n    return width * height")


def test_words_are_accepted_one_by_one_and_the_rest_stays_on_the_screen(nvim: Neovim):
    nvim.edit(nvim.home.write("total.py", "total =\n"), "=")
    nvim.type(" ")
    rest = "first(width) + second[height]"
    nvim.wait_for_ghost(rest)
    for word in ("first", "(", "width", ")", " +", " second"):
        nvim.keys("<M-Right>")
        rest = rest.removeprefix(word)
        nvim.wait_for_ghost(rest)
    assert nvim.line() == "total = first(width) + second"
    nvim.keys("<Tab>")
    nvim.wait_for_text("total = first(width) + second[height]")
    nvim.keys("<Esc>u")
    nvim.wait_for_text("total = first(width) + second")


def test_lines_are_accepted_one_by_one_and_the_rest_stays_on_the_screen(nvim: Neovim):
    nvim.edit(nvim.home.write("block.py", "def block()\n"), ")")
    nvim.type(":")
    nvim.wait_for_ghost("\n    one = 1\n    two = 2\n    return one + two")
    nvim.keys("<M-C-Right>")
    nvim.wait_for_ghost("\n    two = 2\n    return one + two")
    nvim.keys("<M-C-Right>")
    nvim.wait_for_ghost("\n    return one + two")
    nvim.keys("<Tab>")
    nvim.wait_for_text("def block():\n    one = 1\n    two = 2\n    return one + two")


def test_keys_do_what_they_did_before_where_nothing_is_shown(home: Home, start):
    init = """
        vim.keymap.set('i', '<M-Right>', 'mapped')
        vim.keymap.set('i', '<C-]>', function() return 'called' end, { expr = true })
        vim.o.expandtab = true
    """
    nvim = start(init=init)
    nvim.edit(home.write("empty.py", "\n"), "")
    nvim.keys("<Tab>x<M-Right><C-]>")
    nvim.wait_for_text("    xmappedcalled")


def test_a_dismissed_suggestion_goes(area):
    area.keys("<C-]>")
    area.wait_for_ghost(None)
    assert area.line() == "    return "


SURROUNDINGS = {
    "characters outside ASCII before the cursor": ("naïve =┃\n", " ", "café + 1", "naïve = café + 1┃\n"),
    "characters outside the BMP before the cursor": ("'🙂🙂' +┃\n", " ", "'🦀' + tail", "'🙂🙂' + '🦀' + tail┃\n"),
    "tabs before the cursor": (
        "if a:\n\tif b:\n\t\treturn┃\n",
        " ",
        "width * height",
        "if a:\n\tif b:\n\t\treturn width * height┃\n",
    ),
    "CRLF": ("a = 1\r\nreturn┃\r\nb = 2\r\n", " ", "width * height", "a = 1\r\nreturn width * height┃\r\nb = 2\r\n"),
    "lines after the cursor": ("return┃\n\nb = 2\n", " ", "width * height", "return width * height┃\n\nb = 2\n"),
    "a bracket after the cursor": ("print┃)\n", "(", "width, height", "print(width, height┃)\n"),
    "a file without a last newline": ("return┃", " ", "width * height", "return width * height┃\n"),
}


@pytest.mark.parametrize("case", SURROUNDINGS.values(), ids=SURROUNDINGS.keys())
def test_the_saved_file_is_what_was_shown(case, nvim: Neovim):
    marked, typed, ghost, expected = case
    before, after = marked.split("┃")
    nvim.edit(nvim.home.write("code.txt", before + after), before.replace("\r\n", "\n"))
    nvim.type(typed)
    nvim.wait_for_ghost(ghost)
    nvim.keys("<Tab>")
    nvim.wait_for_ghost(None)
    before, after = expected.split("┃")
    nvim.wait_for_text((before + after).replace("\r\n", "\n").removesuffix("\n"))
    row, column = nvim.rpc.current.window.cursor
    assert (row, column) == (before.count("\n") + 1, len(before.rpartition("\n")[2].encode()))
    assert nvim.saved() == (before + after).encode()


def test_a_bracket_that_the_editor_closes_is_not_written_twice(home: Home, start):
    nvim = start(init="vim.keymap.set('i', '(', '()<Left>')")
    nvim.edit(home.write("pairs.py", "print\n"), "print")
    nvim.type("(")
    nvim.wait_for_ghost("width, height")
    nvim.keys("<Tab>")
    nvim.wait_for_text("print(width, height)")
