"""The JSON schema of all settings, from which editors' manifests and their documentation are generated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from lsp_server.settings import Settings

_JSON_TYPES = {"bool": "boolean", "int": "integer", "float": "number", "str": "string", "tuple[str, ...]": "array"}


def schema() -> dict[str, Any]:
    """Describes every setting as JSON schema; `x-unit` and `x-user-only` are our own additions to it."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "midfill",
        "type": "object",
        "properties": {each.name: _property(str(each.type), each.default, each.metadata) for each in fields(Settings)},
        "additionalProperties": False,
    }


def _property(annotation: str, default: Any, metadata: Mapping[str, Any]) -> dict[str, Any]:
    kind, _, optional = annotation.partition(" | ")
    about = {
        "type": [_JSON_TYPES[kind], "null"] if optional else _JSON_TYPES[kind],
        "default": list(default) if isinstance(default, tuple) else default,
        "description": metadata["about"],
    }
    if kind == "tuple[str, ...]":
        about["items"] = {"type": "string"}
    if allowed := metadata.get("range"):
        about |= {"minimum": allowed[0], "maximum": allowed[1]}
    if choices := metadata.get("choices"):
        about["enum"] = list(choices)
    if unit := metadata.get("unit"):
        about["x-unit"] = unit
    if metadata.get("user_only"):
        about["x-user-only"] = True
    return about
