"""The filters: what is written at the cursor, and what of it is shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsp_server.postprocess import FILTERS, postprocess
from tests.lsp_server.places import prompt_at


def check(marked: str, written: str, shown: str) -> None:
    assert postprocess(written, prompt_at(marked)) == shown


@pytest.mark.parametrize(
    ("marked", "written", "shown"),
    [
        # one line, without its end
        ("x = ┃\n", "1\ny = 2", "1"),
        ("x = ┃\n", "1\r\ny = 2", "1"),
        ("x = ┃\n", "\ny = 2", ""),
        ("x = ┃\n", "1  ", "1"),
        ("x = ┃\n", "   ", ""),
        # special tokens, halves of them and of characters
        ("x = ┃\n", "1<|endoftext|>y", "1"),
        ("x = ┃\n", "1<fim_middle>y", "1"),
        ("x = ┃\n", "1<fim-suffix>", "1"),
        ("x = ┃\n", "1<fim_mid", "1"),
        ("x = ┃\n", "1<|endof", "1"),
        ("x = ┃\n", "'é\ufffd", "'é"),
        ("if x ┃:\n", "< y", "< y"),
        # closers are counted
        ("print(┃)\n", "len(items)", "len(items)"),
        ("print(┃)\n", "len(items))", "len(items)"),
        ("print(┃\n", "len(items))", "len(items))"),
        ("foo(a, ┃\n", "b));", "b);"),
        ("foo(a, ┃)\n", "b) + c(d)", "b"),
        ("x = [f(┃)]\n", "1), g(2)]", "1"),
        ("foo(\n    a, ┃\n)\n", "b)", "b"),
        ("d = {'a': ┃}\n", "[1, 2]}", "[1, 2]"),
        ("if (x) {\n    y();\n┃\n", "}", "}"),
        ("print(')', ┃)\n", "x)", "x"),
        # quotes that stand behind the cursor already
        ("print('┃')\n", "hello')", "hello"),
        ("print('┃')\n", "it\\'s', end='')", "it\\'s"),
        ('x = f("a", ┃)\n', '"b")', '"b"'),
        # other ends that stand behind the cursor already
        ("if (┃):\n", "x > 1):", "x > 1"),
        ("foo(┃);\n", "a);", "a"),
        ("<a href=┃ />\n", '"x" />', '"x"'),
        ("x = 1┃;\n", " + 2;", " + 2"),
        # the next line is not said twice
        ("┃\nreturn x\n", "return x", ""),
        ("    ┃\n    return x\n", "return x", ""),
        ("ret┃\n\n  return x\n", "urn x", ""),
        ("  return ┃\n  return x\n", "y", "y"),
        ("if (x) {\n  if (y) {\n    z();\n  ┃\n}\n", "}", "}"),
    ],
)
def test_what_is_shown(marked, written, shown) -> None:
    check(marked, written, shown)


@given(
    st.text(st.sampled_from("ab ()[]{}'\",;:<>/*\n\\"), max_size=30),
    st.sampled_from(["f(┃)\n", "x = ['┃']\n", "┃\nab\n", "{(┃\n}\n"]),
)
def test_every_filter_shortens_and_the_whole_is_idempotent(written, marked) -> None:
    prompt = prompt_at(marked)
    assert all(len(each(written, prompt)) <= len(written) for each in FILTERS)
    once = postprocess(written, prompt)
    assert postprocess(once, prompt) == once
    assert "\n" not in once
    assert "\r" not in once
