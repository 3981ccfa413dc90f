"""Writes the settings of package.json from the server's own schema: names, types, defaults, ranges, descriptions.

`python editors/vscode/scripts/settings.py` rewrites the manifest; a test compares it with what this would write.
What the user alone may set has the scope "machine", which VS Code never reads from a workspace's files.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

MANIFEST = Path(__file__).parents[1] / "package.json"
_PATH = {
    "type": "string",
    "default": "",
    "scope": "machine",
    "order": 0,
    "markdownDescription": (
        "The server: an absolute path, or a name on PATH. Empty: `midfill` on PATH, or else in the workspace's Python"
        " environment, which is asked about first."
    ),
}
# Of JSON schema, what VS Code's settings editor understands.
_COPIED = ("type", "default", "minimum", "maximum", "enum", "items")


def with_settings(manifest: dict[str, Any]) -> dict[str, Any]:
    """Gives the manifest with the server's settings, and the one that is this extension's own."""
    properties = {"midfill.path": _PATH}
    for order, (name, setting) in enumerate(_schema()["properties"].items(), 1):
        properties[f"midfill.{name}"] = _property(setting, order)
    configuration = manifest["contributes"]["configuration"] | {"properties": properties}
    return manifest | {"contributes": manifest["contributes"] | {"configuration": configuration}}


def written(manifest: dict[str, Any]) -> str:
    return json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"


def _schema() -> dict[str, Any]:
    """Asks the server, as every editor must: nothing under editors/ imports it."""
    printed = subprocess.run([sys.executable, "-m", "lsp_server", "schema"], capture_output=True, check=True).stdout
    schema: dict[str, Any] = json.loads(printed)
    return schema


def _property(setting: dict[str, Any], order: int) -> dict[str, Any]:
    is_user_only = setting.get("x-user-only", False)
    return {
        **{key: setting[key] for key in _COPIED if key in setting},
        "scope": "machine" if is_user_only else "window",
        "order": order,
        "markdownDescription": _description(setting, is_user_only),
    }


def _description(setting: dict[str, Any], is_user_only: bool) -> str:
    text: str = setting["description"]
    sentences = [text[0].upper() + text[1:].rstrip(".") + "."]
    if unit := setting.get("x-unit"):
        sentences.append(f"In {unit}.")
    if is_user_only:
        sentences.append("Yours alone: never taken from a workspace. Starts the server anew.")
    return " ".join(sentences)


if __name__ == "__main__":
    MANIFEST.write_text(written(with_settings(json.loads(MANIFEST.read_text("utf-8")))), "utf-8")
