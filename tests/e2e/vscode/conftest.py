"""A browser for all tests, and a VS Code with the scripted engine for each file of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.e2e.home import SCRIPT, Home
from tests.e2e.vscode.code_server import CodeServer, Window

# Beside what all editors' tests know: indentation that a key adds, a long line of bench keys, and a picture.
RULES = (
    {"prefix_ends": "while True:\n", "text": "    step()\n"},
    {"prefix_ends": "\nv", "text": "alue\n"},
    {
        "prefix_ends": "def perimeter(width, height):",
        "text": '\n    """Walks along all four sides."""\n    return 2 * (width + height)\n',
    },
)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    assert chromium, "chromium is missing: `make e2e-vscode` installs it"
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("home"), *SCRIPT, *RULES)


@pytest.fixture(scope="module")
def vscode(home: Home) -> Iterator[CodeServer]:
    started = CodeServer(home, midfill_engine="scripted", midfill_script=str(home.script))
    yield started
    started.close()


@pytest.fixture(scope="module")
def shared_window(vscode: CodeServer, browser: Browser) -> Iterator[Window]:
    """One window for all cases of a file, each of which opens a document of its own."""
    opened = vscode.window(browser)
    yield opened
    opened.close()
