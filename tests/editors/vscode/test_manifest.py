"""The extension's manifest and sources, as far as they can be judged without an editor."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

from lsp_server.schema import schema

EXTENSION = Path(__file__).parents[3] / "editors/vscode"


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("vscode_settings", EXTENSION / "scripts/settings.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _manifest() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((EXTENSION / "package.json").read_text("utf-8"))
    return found


def _properties() -> dict[str, Any]:
    found: dict[str, Any] = _manifest()["contributes"]["configuration"]["properties"]
    return found


def test_settings_are_what_the_generator_writes() -> None:
    generator = _generator()
    manifest = (EXTENSION / "package.json").read_text("utf-8")
    assert manifest == generator.written(generator.with_settings(json.loads(manifest))), (
        "run python editors/vscode/scripts/settings.py"
    )


def test_settings_have_the_names_and_defaults_of_the_server() -> None:
    settings = schema()["properties"]
    properties = {name.removeprefix("midfill."): each for name, each in _properties().items() if name != "midfill.path"}
    assert {name: each["default"] for name, each in properties.items()} == {
        name: each["default"] for name, each in settings.items()
    }


def test_what_the_user_alone_may_set_is_never_read_from_a_workspace() -> None:
    user_only = {f"midfill.{name}" for name, each in schema()["properties"].items() if each.get("x-user-only")}
    machine = {name for name, each in _properties().items() if each["scope"] == "machine"}
    assert machine == user_only | {"midfill.path"}


def test_every_command_of_the_manifest_exists_and_no_other_does() -> None:
    declared = {each["command"].removeprefix("midfill.") for each in _manifest()["contributes"]["commands"]}
    source = (EXTENSION / "src/extension.ts").read_text("utf-8")
    table = source[source.index("  return {\n    toggle") : source.index("\n  };\n}\n")]
    assert declared == set(re.findall(r"^    (\w+)[:,]", table, re.MULTILINE))


def test_sources_have_no_any() -> None:
    sources = sorted((EXTENSION / "src").glob("*.ts"))
    assert sources
    for path in sources:
        code = re.sub(r"/\*.*?\*/|//.*?$", "", path.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
        assert not re.search(r"(?:[:<|&,]|\bas)\s*any\b", code), path.name


def test_nothing_is_downloaded_or_sent() -> None:
    for path in (EXTENSION / "src").glob("*.ts"):
        assert not re.search(r"\bfetch\(|node:https?|node:net|XMLHttpRequest", path.read_text("utf-8")), path.name
