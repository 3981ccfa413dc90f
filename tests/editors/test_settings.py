"""Every setting's name, default and description is the server's own, in each editor."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from editors import settings
from lsp_server.schema import schema

PROPERTIES = schema()["properties"]
GENERATED = settings.generated()


@pytest.mark.parametrize("path", GENERATED, ids=lambda path: path.name)
def test_what_is_checked_in_is_what_would_be_generated(path: Path) -> None:
    assert path.read_text("utf-8") == GENERATED[path], "run `python -m editors.settings`"


def test_each_client_names_every_setting_once() -> None:
    texts = {path.name: text for path, text in GENERATED.items()}
    lua = re.findall(r"^  (\w+) = \{$", texts["settings.lua"], re.M)
    elisp = re.findall(r"^\(defcustom midfill-(\S+) ", texts["midfill-settings.el"], re.M)
    markdown = re.findall(r"^\| `(\w+)` \|", texts["README.md"], re.M)
    vimdoc = re.findall(r"\*midfill\.(?:settings|server)\.(\w+)\*", texts["midfill.txt"])
    assert lua == markdown == vimdoc == [*PROPERTIES]
    assert elisp == [name.replace("_", "-") for name in PROPERTIES]


def test_user_only_settings_are_options_of_serve() -> None:
    from lsp_server.__main__ import _parser

    serve = next(action.choices["serve"] for action in _parser()._actions if action.choices and "serve" in action.choices)
    for name, setting in PROPERTIES.items():
        if settings.is_user_only(setting):
            assert settings.option(name) in serve._option_string_actions
