"""Neovims that are closed again, in homes of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.home import Home
from tests.e2e.nvim.neovim import NVIM, Neovim


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path)
    yield made
    made.leave()


@pytest.fixture
def start(home: Home) -> Iterator[Callable[..., Neovim]]:
    """Starts Neovims in this test's home."""
    assert NVIM.exists(), f"{NVIM} is missing: `make e2e-nvim` installs it"
    started: list[Neovim] = []

    def one(*args: object, **kwargs: object) -> Neovim:
        started.append(Neovim(home, *args, **kwargs))  # type: ignore[arg-type]
        return started[-1]

    yield one
    for each in started:
        each.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neovim]:
    """One Neovim on the script for a whole file of tests: starting a server takes longer than most of them."""
    home = Home(tmp_path_factory.mktemp("home"))
    neovim = Neovim(home)
    yield neovim
    neovim.close()


@pytest.fixture
def nvim(running: Neovim) -> Iterator[Neovim]:
    yield running
    running.keys("<Esc>")
    running.rpc.command("%bwipeout!")
