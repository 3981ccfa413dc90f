"""The parts of the extension that need no editor, and what is packaged."""

from __future__ import annotations

import subprocess
import zipfile

import pytest

from tests.e2e.home import ROOT
from tests.e2e.vscode.code_server import NODE, VSIX

pytestmark = pytest.mark.e2e


def test_parts_by_themselves() -> None:
    done = subprocess.run(
        [str(NODE), "--test"], cwd=ROOT / "editors/vscode", capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_package_is_small_and_holds_only_what_runs() -> None:
    assert VSIX.stat().st_size < 1_000_000
    names = [name for name in zipfile.ZipFile(VSIX).namelist() if name.startswith("extension/")]
    folders = {name.split("/")[1] for name in names}
    assert folders == {"dist", "media", "package.json", "readme.md", "LICENSE.txt"}
