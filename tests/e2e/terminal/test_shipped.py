"""`midfill try` with the model that ships, in a resident engine: the picture in the README."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from midfill_terminal.trial import Trial, open_text

from tests.e2e.home import PATIENCE_S, Home, screenshot

pytestmark = pytest.mark.e2e


async def test_the_sample_is_completed_by_the_shipped_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    home = Home(tmp_path)
    for name, value in home.env.items():
        monkeypatch.setenv(name, value)
    app = Trial(None, open_text(None), ["--threads", "1"])
    try:
        async with app.run_test(size=(96, 30)) as pilot, asyncio.timeout(PATIENCE_S):
            while not app.is_answering:
                await pilot.pause(0.05)
            for char in " item":
                n_answers = app.costs.row_count
                await pilot.press({" ": "space"}.get(char, char))
                while app.costs.row_count == n_answers:
                    await pilot.pause(0.05)
                if char != " " and app.area.ghost:
                    break
            assert app.area.ghost, [app.costs.get_row_at(idx) for idx in range(app.costs.row_count)]
            screenshot("try.svg", app.export_screenshot(title="midfill try"))
            await pilot.press("tab")
            assert app.area.ghost == ""
    finally:
        home.leave()
