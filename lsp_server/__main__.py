"""The `midfill` command. Reads the user's settings file and the command line, which nothing else does.

argparse and not typer, whose import alone is a tenth of the time from spawn to the reply to `initialize`.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

from platformdirs import user_config_path, user_state_path

from lsp_server.settings import Checked, Settings, SettingsError, apply, read_file

# The engine's own program: torch is never imported in this one.
_ENGINE_COMMANDS = {
    "verify": ("compare our logits and greedy ids with transformers' on a model of yours", ("verify",)),
    "engine": ("look after the resident engine", ()),
    "clean": ("end the resident engine and remove what midfill keeps outside its package", ("clean",)),
    "models": ("look after the models on this machine", ("models",)),
}


_GC_OBJECTS = 50_000  # that must have gathered: Python's 700 are there at every ninth key, 0.3 ms each time, 0.8 each tenth


def main() -> None:
    """Is the console script."""
    command, *rest = argv = sys.argv[1:] or ["--help"]
    if command in _ENGINE_COMMANDS:
        if [command, *rest[:1]] == ["engine", "start"]:
            rest += ["--settings", _engine_settings()]
        # -P: a folder named engine where the user happens to be is not ours.
        os.execv(sys.executable, [sys.executable, "-P", "-m", "engine", *_ENGINE_COMMANDS[command][1], *rest])
    parser = _parser()
    args, more = parser.parse_known_args(argv)
    if args.command in _PASSING_ON:
        sys.exit(_PASSING_ON[args.command](args, more))
    if more:
        parser.error(f"unknown arguments: {' '.join(more)}")
    if args.command == "why":
        sys.exit(_say(_why(args.place)))
    sys.exit(_serve(vars(args)) if args.command == "serve" else _say(_PRINTING[args.command]()))


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
    serve.add_argument("--record", type=Path, metavar="FILE", help="write the session into this file, text as its shape")
    serve.add_argument("--record-text", action="store_true", help="let the text itself into that file")
    serve.add_argument("--log-text", action="store_true", help="let suggested text into the log")
    complete = commands.add_parser("complete", help="show the suggestion at a place; takes the options of serve too")
    complete.add_argument("place", metavar="FILE[:LINE:COL]", help="a place, or a file with ┃ at the places")
    complete.add_argument("--svg", type=Path, help="also draw it into this file")
    why = commands.add_parser("why", help="tell why nothing is suggested in a file, or at a place in it")
    why.add_argument("place", metavar="FILE[:LINE:COL]")
    replay = commands.add_parser("replay", help="run a recorded session again; takes the options of serve too")
    replay.add_argument("file", type=Path)
    replay.add_argument("--speed", type=float, default=1.0, help="of the recorded time; 0 does not wait at all")
    trial = commands.add_parser("try", help="a small editor to see it at work; takes the options of serve too")
    trial.add_argument("file", type=Path, nargs="?", help="what to edit; a sample without it")
    commands.add_parser("schema", help="print the JSON schema of all settings")
    commands.add_parser("stats", help="print what suggestions were worth and what they cost, from this machine's counters")
    commands.add_parser("doctor", help="print all that a bug report needs, without any source text")
    for name, (about, _) in _ENGINE_COMMANDS.items():
        commands.add_parser(name, help=about)
    return parser


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *rest: Any) -> None:
        parser.exit(message=f"midfill {version('midfill')}\n")


def _serve(options: dict[str, Any]) -> int:
    from lsp_server.server import MidfillServer
    from lsp_server.stats import Stats
    from lsp_server.tracing import Tracer, configure

    configure(options["log_level"], options["log_file"])
    known = {each.name for each in fields(Settings)}
    checked = _user_settings({name: value for name, value in options.items() if name in known and value is not None})
    tracer = Tracer(options["log_text"], Stats(_stats_file()))
    server = MidfillServer(checked.settings, version=version("midfill"), tracer=tracer, problems=checked.problems)
    # What was imported lives as long as the process: looking through it, 40 ms each time, would be felt at a key. Nearly all
    # that a key leaves behind goes by counting; a document's new texts and what is remembered are no reason to look.
    gc.freeze()
    gc.set_threshold(_GC_OBJECTS)
    if options["record"] is None:
        return server.serve()
    from lsp_server.recording import Recorder

    with _private(options["record"]) as file:
        server.recorder = Recorder(file, with_text=options["record_text"], is_private=server.documents.is_private)
        return server.serve()


def _why(place: str) -> str:
    from lsp_server.why import why

    return "\n".join(why(place, _user_settings({}).settings))


def _private(path: Path) -> TextIO:
    """Opens a file for writing that only its owner may read."""
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8")


def _say(text: str) -> int:
    sys.stdout.write(text + "\n")
    return 0


def _schema() -> str:
    from lsp_server.schema import schema

    return json.dumps(schema(), indent=2)


def _stats() -> str:
    from lsp_server.stats import Stats

    return "\n".join(f"{name:24} {value}" for name, value in Stats(_stats_file()).rows())


def _doctor() -> str:
    from lsp_server.doctor import report

    return report(_user_settings({}), user_config_path("midfill") / "midfill.toml", _stats_file().parent)


def _stats_file() -> Path:
    return user_state_path("midfill") / "stats.json"


def _replay(args: argparse.Namespace, serve_args: list[str]) -> int:
    import asyncio

    from lsp_server.replay import replay

    try:
        return _say(asyncio.run(replay(args.file, serve_args, args.speed)))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"midfill: {error}\n")
        return 1


def _try(args: argparse.Namespace, serve_args: list[str]) -> int:
    from midfill_terminal.trial import run  # type: ignore[import-untyped,unused-ignore]

    return int(run(args.file, serve_args))


def _complete(args: argparse.Namespace, serve_args: list[str]) -> int:
    from midfill_terminal.complete import run  # type: ignore[import-untyped,unused-ignore]

    return int(run(args.place, serve_args, args.svg))


def _engine_settings() -> str:
    """What the user's file says about the engine, as `midfill engine start` takes it."""
    from lsp_server.backend import engine_options

    options = asdict(engine_options(_user_settings({}).settings))
    del options["kind"], options["script"]  # it is the resident one that is started, with a model
    return json.dumps(options)


def _user_settings(options: dict[str, object]) -> Checked:
    """Reads the user's file and lays the command line over it."""
    try:
        from_file = read_file(user_config_path("midfill") / "midfill.toml")
    except SettingsError as error:
        from_file = Checked(Settings(), (str(error),))
    checked = apply(from_file.settings, options, by_user=True)
    return Checked(checked.settings, from_file.problems + checked.problems)


# Commands that print a page, and those that take the options of `serve` for a server of their own.
_PRINTING: dict[str, Callable[[], str]] = {"schema": _schema, "stats": _stats, "doctor": _doctor}
_PASSING_ON: dict[str, Callable[[argparse.Namespace, list[str]], int]] = {
    "try": _try,
    "complete": _complete,
    "replay": _replay,
}

if __name__ == "__main__":
    main()
