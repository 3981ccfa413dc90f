"""Which source files are worth learning from, as an ordered tuple of named filters, and what is masked in the rest.

A filter names the reason to drop a file; the manifest counts the reasons.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from engine.training.licences import file_verdict
from engine.training.packages import SourceFile

_MIN_CHARS = 200
_MAX_LINE_CHARS = 1000
_MAX_MEAN_LINE_CHARS = 100
_MIN_ALPHA = 0.3
_MIN_DISTINCT_LINES = 0.35
_MAX_LITERAL_LINES = 0.6  # a table of names or numbers, whatever the language around it

_TEST_PATH = re.compile(
    r"(^|/)(tests?|_tests?|testsuite|test_data|benchmarks?)/|(^|/)(test_[^/]*|[^/]*_test|tests?|conftest)\.py$"
)
_VENDORED_PATH = re.compile(
    r"(^|/)_?(vendor(ed|ized)?|third_?party|externals?|extern|bundled|site-packages|pkg_resources/_vendor|packages/six)(/|\.py$)|"
    r"\.data/(data|scripts)/"
)
_GENERATED_PATH = re.compile(r"(_pb2|_pb2_grpc|_version|versioneer|parsetab|lextab|_lextab|_parsetab)\.py$|(^|/)_?generated/")
_GENERATED_HEAD = re.compile(
    r"(auto(matically)?[- _]?|code |file (is|was) |files? )generated|generated (automatically|by|from|code|file)|@generated|"
    r"do not (edit|modify)|not be edited|DO NOT CHANGE|created by generate|Coded? generated",
    re.IGNORECASE,
)
_LITERAL_LINE = re.compile(r"[\"'0-9({\[\-+.bruf]*[\"'0-9].*,\s*(#.*)?$|[-+0-9.,e\s]+$")
_SECRET = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY|\b(AKIA|ASIA)[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}\b|\bsk-[A-Za-z0-9_-]{32,}|"
    r"\bxox[abpr]-[A-Za-z0-9-]{10,}|\bAIza[0-9A-Za-z_-]{35}\b|\beyJ[A-Za-z0-9_-]{20,}\.eyJ|\bglpat-[A-Za-z0-9_-]{20}"
)
# The top-level domain is a closed list, because `a@b.mean` is a matrix product.
_EMAIL = re.compile(
    r"[\w.+-]+@(?:[\w-]+\.)+(?:com|org|net|edu|gov|io|dev|info|me|name|eu|de|fr|uk|nl|se|no|fi|dk|ch|at|be|it|es|pl|cz|ru|jp|cn|"
    r"in|br|au|ca|nz|us|kr|hu|pt|ie|gr|ro|il|za|mx|ar|cl|tw|ai|co|is|si|sk|ua|biz|tech|xyz|app|cloud|email)\b"
)
_MASKED_EMAIL = "name@example.com"


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Lines of an evaluation set: a file that carries any of them is not trained on."""

    lines: frozenset[str]

    def is_in(self, text: str) -> bool:
        """Tells whether any line of the text belongs to the benchmark."""
        return not self.lines.isdisjoint(line.strip() for line in text.split("\n"))


def benchmark(problems: Iterable[str], names: Iterable[str]) -> Benchmark:
    """Takes the telling lines of a benchmark's problems: signatures of its functions and long docstring lines.

    Shorter lines, and lines of plain code, stand in anybody's files.
    """
    lines = set()
    signature = re.compile(rf"def (?:{'|'.join(sorted(set(names)))})\(.*\) ?(?:->.*)?:$")
    for problem in problems:
        for line in (raw.strip() for raw in problem.split("\n")):
            if signature.match(line) and len(line) > 40:
                lines.add(line)
            if len(line) >= 32 and line.count(" ") >= 4 and re.fullmatch(r"[A-Za-z\"'>(][^=]*", line) and ":" not in line[-1:]:
                lines.add(line)
    return Benchmark(frozenset(lines))


def reason_to_drop(file: SourceFile, carriers: Benchmark) -> str | None:
    """Names the first filter that drops the file; None where it is kept."""
    for reason, drops in _FILTERS:
        if drops(file):
            return reason
    return "benchmark" if carriers.is_in(file.text) else None


def mask(text: str) -> str:
    """Replaces every e-mail address by one that belongs to nobody."""
    return _EMAIL.sub(_MASKED_EMAIL, text)


def _is_data(file: SourceFile) -> bool:
    text = file.text
    letters = sum(map(str.isalpha, text[:20_000]))
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if letters < _MIN_ALPHA * min(len(text), 20_000) or not lines:
        return True
    if len(lines) > 100 and len(set(lines)) < _MIN_DISTINCT_LINES * len(lines):
        return True
    return len(lines) > 40 and sum(_LITERAL_LINE.match(line) is not None for line in lines) > _MAX_LITERAL_LINES * len(lines)


def _is_minified(file: SourceFile) -> bool:
    lines = file.text.split("\n")
    return max(map(len, lines)) > _MAX_LINE_CHARS or len(file.text) > _MAX_MEAN_LINE_CHARS * len(lines)


def _is_not_python(file: SourceFile) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in other people's strings
        try:
            ast.parse(file.text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return True
    return False


# Cheap ones first.
_FILTERS: tuple[tuple[str, Callable[[SourceFile], bool]], ...] = (
    ("short", lambda file: len(file.text) < _MIN_CHARS),
    ("test", lambda file: _TEST_PATH.search(file.path) is not None),
    ("vendored", lambda file: _VENDORED_PATH.search(file.path) is not None),
    ("generated", lambda file: bool(_GENERATED_PATH.search(file.path) or _GENERATED_HEAD.search(file.text[:1500]))),
    ("licence", lambda file: not file_verdict(file.text).allowed),
    ("minified", _is_minified),
    ("secret", lambda file: _SECRET.search(file.text) is not None),
    ("data", _is_data),
    ("syntax", _is_not_python),
)
