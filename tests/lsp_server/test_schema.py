"""The schema says of each setting what the server itself holds it to."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields
from typing import Any

import pytest

from lsp_server.schema import schema
from lsp_server.settings import Settings, apply

PROPERTIES: dict[str, dict[str, Any]] = schema()["properties"]


def test_every_setting_is_in_the_schema_with_its_default_and_meaning() -> None:
    for each in fields(Settings):
        described = PROPERTIES[each.name]
        default = list(each.default) if isinstance(each.default, tuple) else each.default
        assert (described["default"], described["description"]) == (default, each.metadata["about"])
    assert len(PROPERTIES) == len(fields(Settings))


@pytest.mark.parametrize("name", PROPERTIES)
def test_what_the_schema_allows_is_taken_and_what_it_does_not_is_refused(name) -> None:
    described = PROPERTIES[name]
    good, bad = [described["default"]], [{}]
    if "minimum" in described:
        good += [described["minimum"], described["maximum"]]
        bad += [described["minimum"] - 1, described["maximum"] + 1]
    if "enum" in described:
        good += described["enum"]
        bad += ["nonsense"]
    assert not any(apply(Settings(), {name: value}, by_user=True).problems for value in good)
    assert all(apply(Settings(), {name: value}, by_user=True).problems for value in bad)
    assert bool(described.get("x-user-only")) == bool(apply(Settings(), {name: good[0]}, by_user=False).problems)


def test_the_command_prints_the_schema(private_env) -> None:
    printed = subprocess.check_output([sys.executable, "-m", "lsp_server", "schema"], env=private_env, text=True)
    assert json.loads(printed) == schema()
