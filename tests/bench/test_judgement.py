"""The table of what each part of the judgement earns."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from lsp_server import postprocess
from lsp_server.confidence import Thresholds
from tests.bench.judgement import judged, read, rows

HOLE = {"prefix": "total = len(", "suffix": ")\n", "kind": "call"}
WRITTEN = [
    {**HOLE, "middle": "items", "text": "items)", "logprobs": [-0.1, -0.1], "ends": [5, 6]},
    {**HOLE, "middle": "names", "text": "nodes)", "logprobs": [-3.0, -0.1], "ends": [5, 6]},
]


def written(folder: Path) -> Path:
    path = folder / "answers.jsonl.gz"
    with gzip.open(path, "wt") as file:
        file.writelines(json.dumps(each) + "\n" for each in WRITTEN)
    return path


def test_the_filters_make_a_doubled_closer_right(tmp_path) -> None:
    found = dict(rows(read(written(tmp_path)), None))
    assert found["everything"].right == 0.5
    assert (found["everything"].characters_right, found["everything"].characters_wrong) == (3.0, 2.0)
    assert found["what the model wrote"].right == 0
    names = {each.__name__ for filters in postprocess.FILTERS.values() for each in filters}
    assert {f"without {name}" for name in names} <= set(found)


def test_the_gate_trades_what_is_shown_for_precision(tmp_path) -> None:
    gated = judged(read(written(tmp_path)), Thresholds(-1.0, -1.0))
    assert (gated.shown, gated.precision) == (0.5, 1.0)
