"""Places marked ┃, by what is suggested there."""

from __future__ import annotations

from typing import NamedTuple


class Case(NamedTuple):
    """A place, whether the user asked by hand, and how much is suggested."""

    language: str
    marked: str
    mode: str
    invoked: bool = False


LINE = [
    Case("python", "x = ┃\n", "line"),
    Case("python", "x = ┃", "line"),
    Case("python", "print(┃)\n", "line"),
    Case("python", "print('┃');  \r\n", "line"),
    Case("python", "┃", "line"),
    Case("python", "import os\n┃\n", "line"),
    Case("javascript", "const a = ┃;\n", "line"),
    Case("javascript", "foo(a, ┃);\n", "line"),
    Case("javascript", "foo(() => a┃)\n", "line"),
    Case("javascript", "import { a┃ } from 'm';\n", "none"),
    Case("typescript", "let x: Map<┃>;\n", "line"),
    Case("javascriptreact", "const a = <App ┃/>;\n", "line"),
    Case("go", "func f() {\n\tx := ┃\n}\n", "line"),
    Case("rust", "fn f() {\n    let x = ┃\n}\n", "line"),
    Case("java", "class A {\n    int a;\n    ┃\n    int b;\n}\n", "line"),
    Case("c", "int main(void) {\n    int a = 1;\n    ┃\n    return a;\n}\n", "line"),
    Case("cpp", "std::vector<┃> v;\n", "none"),
    Case("python", "def f():\n    a = 1\n    ┃\n    return a\n", "line"),
    Case("python", "def f():\n    ┃\n    return a\n", "line"),
    Case("python", "def f():┃\n    return a\n", "line"),
    Case("javascript", "function f() {\n  ┃\n  return a;\n}\n", "line"),
    Case("python", "d = {\n    ┃\n}\n", "line"),
    Case("javascript", "const o = {┃}\n", "line"),
    Case("javascript", "const o = {\n  ┃\n};\n", "line"),
    Case("python", "foo(\n    ┃\n)\n", "line"),
    Case("python", "x = d[a:┃\n", "line"),
    Case("python", "x: ┃\n", "line"),
    Case("python", "x = {'a':┃}\n", "line"),
    Case("python", "def foo(a, ┃\n", "line"),
    Case("yaml", "a: ┃\n", "line"),
    Case("markdown", "Some text ┃\n", "line"),
]

NONE = [
    Case("python", "pri┃nt\n", "none"),
    Case("python", "x = ┃y\n", "none"),
    Case("python", "┃if x:\n", "none"),
    Case("python", "foo(┃bar)\n", "none"),
    Case("python", "foo(┃, bar)\n", "none"),
    Case("javascript", "const ┃ = 1;\n", "none"),
    Case("javascript", "x ┃+ y;\n", "none"),
    Case("javascript", "if (┃) {\n}\n", "none"),
    Case("python", "x = 'hello┃'\n", "none"),
    Case("python", "x = 'hel┃lo'\n", "none"),
    Case("javascript", 'const a = "done┃";\n', "none"),
    Case("javascript", "const a = `done┃`;\n", "none"),
    Case("c", "/* adds two numbers.┃ */\nint a;\n", "none"),
    Case("c", "/* adds two┃ */\nint a;\n", "none"),
    Case("python", "# Does a thing.┃\n", "none"),
    Case("javascript", "// That is all.┃\nf();\n", "none"),
    Case("python", 'def f():\n    """Return x.┃"""\n    return x\n', "none"),
    Case("go", '\tx := "a┃b"\n', "none"),
    Case("rust", 'let s = "abc┃";\n', "none"),
    Case("java", 'String s = "abc┃";\n', "none"),
]

INVOKED = [
    Case("python", "pri┃nt\n", "line", True),
    Case("python", "x = ┃y\n", "line", True),
    Case("python", "x = 'hello┃'\n", "line", True),
    Case("python", "# Does a thing.┃\n", "line", True),
    Case("c", "/* adds two┃ */\nint a;\n", "line", True),
    Case("python", "def f():\n    ┃\n", "block", True),
    Case("javascript", "function f() {┃}\n", "block", True),
    Case("python", "x = ┃\n", "line", True),
    Case("javascript", "foo(┃bar)\n", "line", True),
]

IN_STRINGS_AND_COMMENTS = [
    Case("python", "# returns ┃\n", "line"),
    Case("python", "# retur┃\n", "line"),
    Case("python", "x = 'hello ┃\n", "line"),
    Case("python", "x = '┃'\n", "line"),
    Case("python", 'x = f"n: {┃}"\n', "line"),
    Case("javascript", "// adds the ┃\nf();\n", "line"),
    Case("javascript", "/**\n * Adds ┃\n */\nfunction f() {}\n", "line"),
    Case("python", 'def f():\n    """┃"""\n', "line"),
    Case("python", 'def f():\n    """Adds\n    ┃\n    """\n', "line"),
    Case("go", '\timport "┃"\n', "line"),
    Case("rust", "/// Adds ┃\nfn f() {}\n", "line"),
]

BLOCK = [
    Case("python", "def f(a):┃\n", "block"),
    Case("python", "def f(a):\n    ┃\n", "block"),
    Case("python", "def f(a):\n    ┃", "block"),
    Case("python", "def f(a):\n    ┃\n\ndef g():\n    pass\n", "block"),
    Case("python", "def f(\n    a,\n    b,\n) -> int:\n    ┃\n", "block"),
    Case("python", "async def f():\n    ┃\n", "block"),
    Case("python", "class A:\n    ┃\n", "block"),
    Case("python", "class A:\n    def f(self):\n        ┃\n\n    def g(self):\n        pass\n", "block"),
    Case("python", "for x in xs:\n    ┃\n", "block"),
    Case("python", "if a:\n    b()\nelse:\n    ┃\n", "block"),
    Case("python", "with open(p) as f:\n    ┃\n", "block"),
    Case("python", "try:\n    ┃\nexcept E:\n    pass\n", "block"),
    Case("python", 'def f():\n    """Returns one."""\n    ┃\n', "block"),
    Case("python", "def f():\n    # Returns one.\n    ┃\n", "block"),
    Case("python", "match x:\n    case 1:\n        ┃\n", "block"),
    Case("javascript", "function f() {┃}\n", "block"),
    Case("javascript", "function f() {┃\n}\n", "block"),
    Case("javascript", "function f() {\n  ┃\n}\n", "block"),
    Case("javascript", "xs.forEach((x) => {┃})\n", "block"),
    Case("javascript", "const f = (x) => {\n  ┃\n};\n", "block"),
    Case("javascript", "if (a) {\n  ┃\n} else {\n  b();\n}\n", "block"),
    Case("typescript", "class A {\n  f(): void {\n    ┃\n  }\n}\n", "block"),
    Case("typescript", "interface A {\n  ┃\n}\n", "block"),
    Case("go", "func f() error {\n\t┃\n}\n", "block"),
    Case("go", "for _, x := range xs {\n\t┃\n}\n", "block"),
    Case("go", "type A struct {\n\t┃\n}\n", "block"),
    Case("rust", "fn f() -> u8 {\n    ┃\n}\n", "block"),
    Case("rust", "match x {\n    ┃\n}\n", "block"),
    Case("rust", "impl A {\n    ┃\n}\n", "block"),
    Case("java", "class A {\n    void f() {\n        ┃\n    }\n}\n", "block"),
    Case("java", "class A {\n    ┃\n}\n", "block"),
    Case("c", "int main(void) {\n    ┃\n}\n", "block"),
    Case("c", "int main(void)\n{\n    ┃\n}\n", "block"),
    Case("cpp", "class A {\npublic:\n    void f() {\n        ┃\n    }\n};\n", "block"),
    Case("c", "while (x) {\n    // next\n    ┃\n}\n", "block"),
    Case("javascript", "function f() {\n  /* one */\n  ┃\n}\n", "block"),
]

CASES = [*LINE, *NONE, *INVOKED, *IN_STRINGS_AND_COMMENTS, *BLOCK]
