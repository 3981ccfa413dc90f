"""Tests of real editors: not even read where they are not asked for, for what drives the editors may not be installed."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return True if config.getoption("markexpr") == "not e2e" else None
