"""How sure a model must be, as its folder says."""

from __future__ import annotations

import json

import pytest

from engine.api import CheckpointError, Gate
from engine.model_files import read_gate

THRESHOLDS = {"min_logprob": -2.5, "mean_logprob": -0.7}


@pytest.mark.parametrize(
    ("values", "gate"),
    [
        (THRESHOLDS, Gate(**THRESHOLDS)),
        ({**THRESHOLDS, "precision": 0.5, "coverage": None}, Gate(**THRESHOLDS, precision=0.5)),
        ({**THRESHOLDS, "fitted_on": "dev"}, Gate(**THRESHOLDS)),
    ],
)
def test_a_gate_is_read_from_beside_the_model(tmp_path, values, gate) -> None:
    assert read_gate(tmp_path) is None
    (tmp_path / "gate.json").write_text(json.dumps(values))
    assert read_gate(tmp_path) == gate


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"min_logprob": "x", "mean_logprob": 0}', '{"min_logprob": null}'])
def test_a_gate_that_is_none_is_an_error_that_names_the_file(tmp_path, text) -> None:
    (tmp_path / "gate.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"gate\.json"):
        read_gate(tmp_path)
