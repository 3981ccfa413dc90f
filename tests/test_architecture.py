"""The walls of the house (ARCHITECTURE.md): who may import whom, what a start costs, how big a file may grow."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LSP = {"pygls", "lsprotocol"}
MAY_SPEAK_LSP = {f"lsp_server/{module}.py" for module in ("server", "protocol", "conversion", "sync", "__main__")}
HEAVY = {"torch", "transformers", "tokenizers", "safetensors", "numpy"}
# All that a language server's process holds of the engine: the door, and the way to the resident process.
LIGHT = {
    f"engine/{name}.py"
    for name in ("__init__", "api", "client", "link", "starter", "wire", "rendezvous", "model_files", "scripted")
}
DOORS = {"engine.client", "engine.local", "engine.scripted"}  # opened inside open_engine, once one is asked for
MAX_LINES, ARGUE_ABOVE_LINES = 500, 300
ARGUED = {
    "lsp_server/scheduler.py": "a keystroke's way and what is done behind it share turns and decodes",
}
# What the server's modules may know of the engine. backend.py alone opens one, decode.py reads its stream, and to the
# scheduler it is plain data, and a type to hand on.
PLAIN_DATA = {"Counters", "Engine", "EngineClosed", "Finish", "Status"}
OF_STREAM = {"Chunk", "Counters", "EngineError", "Finish"}
OF_DOOR = {*PLAIN_DATA, *OF_STREAM, "EngineKind", "EngineOptions", "Order", "Request", "State", "Stop", "open_engine"}
MAY_KNOW = {
    f"lsp_server/{module}.py": {f"engine.api.{name}" for name in names}
    for module, names in (("backend", OF_DOOR), ("decode", OF_STREAM), ("scheduler", PLAIN_DATA))
}


def modules(package: str) -> list[str]:
    return sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / package).rglob("*.py"))


ENGINE, SERVER, EDITORS = modules("engine"), modules("lsp_server"), modules("editors")


def parsed(module: str) -> ast.Module:
    return ast.parse((ROOT / module).read_text("utf-8"))


def imports(tree: ast.AST) -> Iterator[str]:
    """Gives the full name of everything that is imported, also inside functions and for types only."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import: the walls are read off full names"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def packages(module: str) -> set[str]:
    return {name.partition(".")[0] for name in imports(parsed(module))}


@pytest.mark.parametrize("module", ENGINE)
def test_the_engine_has_never_heard_of_the_language_server(module) -> None:
    assert not packages(module) & (LSP | {"lsp_server"})


def test_the_language_server_uses_the_engine_by_its_door_in_few_modules() -> None:
    of_engine = {module: {name for name in imports(parsed(module)) if name.partition(".")[0] == "engine"} for module in SERVER}
    assert {module: names for module, names in of_engine.items() if not names <= MAY_KNOW.get(module, set())} == {}


def test_the_door_needs_the_standard_library_only() -> None:
    tree = parsed("engine/api.py")
    outside = {name for name in imports(tree) if name.partition(".")[0] not in sys.stdlib_module_names}
    assert {name.rpartition(".")[0] for name in outside} == DOORS
    at_the_top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not outside & set(imports(ast.Module(at_the_top, [])))


@pytest.mark.parametrize("module", [*SERVER, *EDITORS, *sorted(LIGHT)])
def test_tensors_stay_in_the_engine_s_process(module) -> None:
    assert not packages(module) & HEAVY


@pytest.mark.parametrize("module", SERVER)
def test_only_the_edge_speaks_lsp(module) -> None:
    assert module in MAY_SPEAK_LSP or not packages(module) & LSP


@pytest.mark.parametrize("module", EDITORS)
def test_editors_speak_lsp_only(module) -> None:
    assert not packages(module) & {"engine", "lsp_server"}


@pytest.mark.parametrize("name", ["engine.api", "lsp_server.server", "lsp_server.__main__"])
def test_importing_the_server_or_the_door_brings_in_nothing_heavy(name) -> None:
    code = f"import sys, {name}; print(*sys.modules)"
    loaded = {each.partition(".")[0] for each in subprocess.check_output([sys.executable, "-c", code], text=True).split()}
    assert not loaded & (HEAVY | {"huggingface_hub", "typer", "rich", "msgspec"})


def test_the_way_to_the_resident_engine_brings_in_no_tensors() -> None:
    code = "import sys, engine.client, engine.scripted; print(*sys.modules)"
    loaded = {each.partition(".")[0] for each in subprocess.check_output([sys.executable, "-c", code], text=True).split()}
    assert not loaded & HEAVY


@pytest.mark.parametrize("module", [*ENGINE, *SERVER])
def test_nothing_prints_for_stdout_is_json_rpc(module) -> None:
    names = (node for node in ast.walk(parsed(module)) if isinstance(node, ast.Name))
    assert [name.lineno for name in names if name.id == "print"] == []


@pytest.mark.parametrize("module", [*ENGINE, *SERVER, *EDITORS])
def test_a_file_is_small_or_argued_for(module) -> None:
    n_lines = len((ROOT / module).read_text("utf-8").splitlines())
    assert n_lines <= (MAX_LINES if module in ARGUED else ARGUE_ABOVE_LINES)
