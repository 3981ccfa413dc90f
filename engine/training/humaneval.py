"""HumanEval-infilling: holes whose filling is right where the problem's own tests pass. Never trained on.

Source: Bavarian et al. 2022, arXiv:2207.14255; github.com/openai/human-eval-infilling.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path

HUMANEVAL = {
    "humaneval_single_line": "HumanEval-SingleLineInfilling.jsonl.gz",
    "humaneval_random_span": "HumanEval-RandomSpanInfillingLight.jsonl.gz",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """A function with a hole, and the code that tests it."""

    prompt: str
    suffix: str
    test: str
    entry_point: str

    def program(self, middle: str) -> str:
        """The program that runs the tests over a filled hole."""
        return f"{self.prompt}{middle}{self.suffix}\n{self.test}\ncheck({self.entry_point})\n"


def read_problems(path: Path) -> list[Problem]:
    """Reads gzipped JSON lines of `prompt`, `suffix`, `test`, `entry_point`."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [Problem(row["prompt"], row["suffix"], row["test"], row["entry_point"]) for row in rows]
