"""The `midfill` command. Reads the user's settings file and the command line, which nothing else does.

argparse and not typer, whose import alone is a tenth of the time from spawn to the reply to `initialize`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from platformdirs import user_config_path

from lsp_server.settings import Checked, Settings, SettingsError, apply, read_file

# The engine's own program: torch is never imported in this one.
_ENGINE_COMMANDS = {
    "verify": ("compare our logits and greedy ids with transformers' on a model of yours", ("verify",)),
    "engine": ("look after the resident engine", ()),
    "clean": ("end the resident engine and remove all that an uninstall leaves behind", ("clean",)),
    "models": ("look after the models on this machine", ("models",)),
}


def main() -> None:
    """Is the console script."""
    command, *rest = argv = sys.argv[1:] or ["--help"]
    if command in _ENGINE_COMMANDS:
        if [command, *rest[:1]] == ["engine", "start"]:
            rest += ["--settings", _engine_settings()]
        os.execv(sys.executable, [sys.executable, "-m", "engine", *_ENGINE_COMMANDS[command][1], *rest])
    parser = _parser()
    args, more = parser.parse_known_args(argv)
    if args.command == "complete":
        sys.exit(_complete(args, more))
    if more:
        parser.error(f"unknown arguments: {' '.join(more)}")
    if args.command == "why":
        sys.exit(_why(args.place))
    sys.exit(_serve(vars(args)) if args.command == "serve" else _print_schema())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("midfill", description="Inline code completion from a model on your own machine.")
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and end")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve an editor over stdin and stdout")
    for each in fields(Settings):
        if each.metadata.get("user_only"):
            option = "--" + each.name.removeprefix("n_").replace("_", "-")
            kind = {"int": int, "float": float}.get(str(each.type).partition(" ")[0], str)
            serve.add_argument(option, dest=each.name, type=kind, default=None, help=each.metadata["about"])
    serve.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    serve.add_argument("--log-file", type=Path, help="where to log; stderr without it")
    serve.add_argument("--log-text", action="store_true", help="let suggested text into the log")
    complete = commands.add_parser("complete", help="show the suggestion at a place; takes the options of serve too")
    complete.add_argument("place", metavar="FILE:LINE:COL")
    complete.add_argument("--svg", type=Path, help="also draw it into this file")
    why = commands.add_parser("why", help="tell why nothing is suggested in a file, or at a place in it")
    why.add_argument("place", metavar="FILE[:LINE:COL]")
    commands.add_parser("schema", help="print the JSON schema of all settings")
    for name, (about, _) in _ENGINE_COMMANDS.items():
        commands.add_parser(name, help=about)
    return parser


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *rest: Any) -> None:
        parser.exit(message=f"midfill {version('midfill')}\n")


def _serve(options: dict[str, Any]) -> int:
    from lsp_server.server import MidfillServer
    from lsp_server.tracing import Tracer, configure

    configure(options["log_level"], options["log_file"])
    known = {each.name for each in fields(Settings)}
    checked = _user_settings({name: value for name, value in options.items() if name in known and value is not None})
    tracer = Tracer(options["log_text"])
    server = MidfillServer(checked.settings, version=version("midfill"), tracer=tracer, problems=checked.problems)
    return server.serve()


def _why(place: str) -> int:
    from lsp_server.why import why

    sys.stdout.writelines(f"{line}\n" for line in why(place, _user_settings({}).settings))
    return 0


def _print_schema() -> int:
    from lsp_server.schema import schema

    sys.stdout.write(json.dumps(schema(), indent=2) + "\n")
    return 0


def _complete(args: argparse.Namespace, serve_args: list[str]) -> int:
    from midfill_terminal.complete import run  # type: ignore[import-untyped,unused-ignore]

    return int(run(args.place, serve_args, args.svg))


def _engine_settings() -> str:
    """What the user's file says about the engine, as `midfill engine start` takes it."""
    settings = _user_settings({}).settings
    names = ("model", "device", "dtype", "attention", "n_threads", "idle_exit_s")
    budget_bytes = None if settings.budget_mb is None else settings.budget_mb << 20
    return json.dumps({name: getattr(settings, name) for name in names} | {"budget_bytes": budget_bytes})


def _user_settings(options: dict[str, object]) -> Checked:
    """Reads the user's file and lays the command line over it."""
    try:
        from_file = read_file(user_config_path("midfill") / "midfill.toml")
    except SettingsError as error:
        from_file = Checked(Settings(), (str(error),))
    checked = apply(from_file.settings, options, by_user=True)
    return Checked(checked.settings, from_file.problems + checked.problems)


if __name__ == "__main__":
    main()
