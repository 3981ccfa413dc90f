"""midfill.el in a real Emacs in batch: its ERT suite, and what Emacs' own checkers say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.home import BUILD, ROOT, Home

pytestmark = pytest.mark.e2e

HERE = Path(__file__).parent
PACKAGE = ROOT / "editors" / "emacs"
FILES = sorted(each.name for each in PACKAGE.glob("*.el"))
LINT = BUILD / "package-lint"
LSP_MODE = BUILD / "lspmode"


@pytest.fixture
def home(tmp_path: Path):
    made = Home(tmp_path)
    yield made
    made.leave()


def emacs(home: Home, *args: str, folder: Path = PACKAGE, **env: str) -> str:
    """Runs Emacs in batch and gives what it printed; it must end well."""
    command = ["emacs", "-Q", "--batch", "-L", str(PACKAGE), *args]
    env = {**home.env, "MIDFILL_SCRIPT": str(home.script), "MIDFILL_PYTHON": sys.executable, **env}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=400)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-8000:]
    return output


def test_the_ert_suite_passes_with_the_real_server(home: Home):
    other = str(HERE / "other_server.py")
    output = emacs(home, "-l", str(HERE / "midfill-test.el"), "-f", "ert-run-tests-batch-and-exit", MIDFILL_OTHER_SERVER=other)
    assert "0 unexpected" in output


def test_it_compiles_without_a_warning(home: Home, tmp_path: Path):
    for name in FILES:
        (tmp_path / name).write_bytes((PACKAGE / name).read_bytes())
    names = [name for name in FILES if name != "midfill-lsp.el"]
    emacs(home, "--eval", "(setq byte-compile-error-on-warn t)", "-f", "batch-byte-compile", *names, folder=tmp_path)


def test_checkdoc_has_nothing_to_say(home: Home):
    names = " ".join(f'"{name}"' for name in FILES)
    check = f"(dolist (file '({names})) (checkdoc-file file))"
    assert "Warning" not in emacs(home, "-l", "checkdoc", "--eval", check)


def test_package_lint_has_nothing_to_say_but_that_there_is_no_public_address(home: Home):
    folders = [option for each in elpa(LINT) for option in ("-L", each)]
    setup = "(setq package-lint-main-file \"midfill.el\") (advice-add #'package-lint--check-url-header :override #'ignore)"
    emacs(home, *folders, "-l", "package-lint", "--eval", f"(progn {setup})", "-f", "package-lint-batch-and-exit", *FILES)


def test_ghost_text_of_lsp_mode_is_shown_and_accepted(home: Home):
    folders = [option for each in elpa(LSP_MODE) for option in ("-L", each)]
    emacs(home, *folders, "-l", str(HERE / "midfill-lsp-test.el"), "-f", "ert-run-tests-batch-and-exit")


def elpa(root: Path) -> list[str]:
    """Finds unpacked Debian packages of Emacs Lisp."""
    found = sorted(str(each) for each in root.rglob("site-lisp/elpa-src/*") if each.is_dir())
    assert found, f"{root} is missing: `make e2e-emacs` installs it"
    return found
