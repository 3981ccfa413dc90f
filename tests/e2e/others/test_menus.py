"""Editors without ghost text over LSP, configured as editors/others.md says: what is suggested comes in their menu."""

from __future__ import annotations

import platform
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.home import BUILD, ROOT, Home, wait_for
from tests.e2e.tmux import Tmux

pytestmark = pytest.mark.e2e

SCRIPT = ({"prefix_ends": "return wi", "text": "dth * height\n"}, {"prefix_ends": "area = ", "text": "width ** 2\n"})
HELIX = BUILD / "helix/root/usr"
ALE = BUILD / "ale/root/usr/share/vim-ale"
PAGE = (ROOT / "editors/others.md").read_text("utf-8")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path, *SCRIPT)
    made.use_script()
    yield made
    made.leave()


def documented(language: str, needle: str) -> str:
    """Gives the block of that language on the page that has the needle in it."""
    (block,) = (each for each in re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) if needle in each)
    return str(block)


def helix(home: Home) -> list[str]:
    """Configures Helix and gives its command; it brings a C library of its own."""
    folder = Path(home.env["XDG_CONFIG_HOME"]) / "helix"
    folder.mkdir()
    # Python's own server is not there.
    config = documented("toml", "[language-server.midfill]").replace('"pylsp", ', "")
    (folder / "languages.toml").write_text(config, "utf-8")
    home.env["HELIX_RUNTIME"] = str(HELIX / "lib/hx/runtime")
    libraries = HELIX / f"lib/{platform.machine()}-linux-gnu"
    loader = next(libraries.glob("ld-linux-*.so.*"))
    return [str(loader), "--library-path", str(libraries), str(HELIX / "lib/hx/hx")]


def vim(home: Home) -> list[str]:
    """Configures Vim with ALE and gives its command."""
    package = home.folder / ".vim/pack/tests/start"
    package.mkdir(parents=True)
    (package / "ale").symlink_to(ALE)
    (home.folder / ".vimrc").write_text(documented("vim", "ale#linter#Define"), "utf-8")
    return [shutil.which("vim") or "vim"]


# What selects the first of a menu and takes it.
EDITORS = {"Helix": (helix, ("Tab", "Enter")), "Vim with ALE": (vim, ("C-n", "C-y"))}


@pytest.mark.parametrize(("configure", "take"), EDITORS.values(), ids=EDITORS.keys())
def test_a_suggestion_is_in_the_menu_and_goes_into_the_file(
    configure: Callable[[Home], list[str]], take: tuple[str, str], home: Home
) -> None:
    path = home.write("area.py", "def area(width, height):\n    return\n")
    with Tmux(home, [*configure(home), str(path)]) as tmux:
        tmux.wait_for("return")
        tmux.keys("j", "A")
        tmux.type(" w")
        wait_for("the menu", lambda: is_offered(tmux))
        tmux.keys(*take, "Escape")
        tmux.type(":wq\r")
        wait_for("the file", lambda: path.read_text("utf-8") == "def area(width, height):\n    return width * height\n")


def is_offered(tmux: Tmux) -> bool:
    """Types the word's next letter, and takes it back where no menu comes: Vim asks nobody before the server runs."""
    tmux.type("i")
    try:
        wait_for("the menu", lambda: "width * height" in tmux.screen(), patience_s=3)
    except AssertionError:
        tmux.keys("BSpace")
        return False
    return True
