"""The engine's command line: the process itself (`serve`), and what a person may ask of it."""

from __future__ import annotations

import asyncio
import logging
import logging.handlers
import os
from dataclasses import replace
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from engine import caretaker
from engine.api import Engine, EngineError, EngineKind, EngineOptions, State, Status, open_engine
from engine.child import serve_child
from engine.client import ProcessEngine
from engine.model_files import HUB_FILES, model_folder
from engine.process import EngineProcess
from engine.rendezvous import Rendezvous, rendezvous, sign, state_directory, take_lock

LOG_BYTES = 1 << 20  # per file, one old one is kept
PROGRESS_S = 0.1  # between looks at an engine that loads

app = typer.Typer(no_args_is_help=True, add_completion=False, help="The resident engine.")
models = typer.Typer(no_args_is_help=True, help="Models on this machine.")
app.add_typer(models, name="models")

Model = Annotated[str | None, typer.Option(help="A folder, a downloaded hub name, or 'shipped'.")]
Settings = Annotated[str, typer.Option(hidden=True)]  # JSON of EngineOptions: what the user's file says


@app.command(hidden=True)
def serve(options_json: str) -> None:
    """Runs the engine process; language servers start it, people need not."""
    options = msgspec.json.decode(options_json, type=EngineOptions)
    place = rendezvous(options)
    lock = take_lock(place.lock)
    if lock is None:
        return  # another server's engine won the race
    with lock:
        sign(lock)
        _log_to(place)
        asyncio.run(EngineProcess(_open_here(options), options.idle_exit_s).serve(place.socket))


@app.command(hidden=True)
def child(options_json: str) -> None:
    """Runs the engine on stdin and stdout; language servers start it, people need not."""
    options = msgspec.json.decode(options_json, type=EngineOptions)
    logging.basicConfig(level=logging.INFO, format="engine: %(levelname)s %(name)s: %(message)s")
    asyncio.run(serve_child(_open_here(options)))


def _open_here(options: EngineOptions) -> Engine:
    """The engine inside this process, which is the one that others talk to."""
    # Before torch is imported: OpenMP threads that spin while they wait for each other cost 8 s a line instead of 0.1 s as
    # soon as something else wants the cores (measured, 8M parameters, two cores beside a build).
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    kind = options.kind if options.kind is EngineKind.SCRIPTED else EngineKind.IN_PROCESS
    return open_engine(replace(options, kind=kind))


def _log_to(place: Rendezvous) -> None:
    handler: logging.Handler
    try:
        handler = logging.handlers.RotatingFileHandler(place.log, maxBytes=LOG_BYTES, backupCount=1, encoding="utf-8")
    except OSError:
        handler = logging.NullHandler()  # a full disk costs the log, not the engine
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


@app.command()
def start(model: Model = None, settings: Settings = "{}") -> None:
    """Starts the resident engine where it does not run, and waits until it has loaded."""
    options = msgspec.json.decode(settings, type=EngineOptions)

    async def ask() -> Status:
        engine = ProcessEngine(options if model is None else replace(options, model=model))
        with _console.status("loading") as line:
            while (status := await engine.status()).state in (State.LOADING, State.WARMING):
                line.update(status.state if status.progress is None else f"{status.state} {status.progress:.0%}")
                await asyncio.sleep(PROGRESS_S)
        await engine.aclose()
        return status

    status = asyncio.run(ask())
    _show(status)
    if status.state is State.ENGINE_DOWN:
        raise typer.Exit(1)


@app.command()
def status(model: Model = None) -> None:
    """Prints what the resident engines are and do, all of them or a model's; starts none."""
    for resident in _residents(model):
        _console.print(f"process      {resident.pid}", highlight=False)
        _show(asyncio.run(resident.status()))


@app.command()
def stop(model: Model = None) -> None:
    """Ends the resident engines, all of them or a model's; the next request of an editor starts its own again."""
    for resident in _residents(model):
        resident.stop()
        _console.print(f"the engine of process {resident.pid} has stopped", highlight=False)


@app.command()
def logs(model: Model = None, lines: int = 50) -> None:
    """Prints the end of the log that was written last, or of a model's that runs with device, dtype and attention auto."""
    pattern = "*.log" if model is None else rendezvous(EngineOptions(model=model)).log.name
    files = sorted(state_directory().glob(pattern), key=lambda path: path.stat().st_mtime)
    text = files[-1].read_text("utf-8", "replace") if files else ""
    _console.print("\n".join(text.splitlines()[-lines:]) or "there is no log", highlight=False, markup=False)


@app.command()
def clean() -> None:
    """Ends the resident engines and removes what midfill has left: sockets, logs, counters, kernels, packed weights."""
    for removed in caretaker.clean():
        _console.print(f"removed {removed}", highlight=False, soft_wrap=True)


def _residents(model: str | None) -> list[caretaker.Resident]:
    wanted = None if model is None else rendezvous(EngineOptions(model=model)).lock
    found = [each for each in caretaker.residents() if wanted in (None, each.lock) or asyncio.run(each.status()).model == model]
    if not found:
        _console.print("no engine runs")
    return found


def _show(status: Status) -> None:
    for name, value in msgspec.to_builtins(status).items():
        _console.print(f"{name:12} {value}", highlight=False, markup=False)


@app.command()
def verify(model: str) -> None:
    """Compares logits and greedy ids with transformers' on this machine, for a folder or a downloaded hub name."""
    from engine.verify import verify as run

    verdicts = run(model_folder(model))
    table = Table("attention", "logits, relative error", "greedy ids that agree", "")
    for verdict in verdicts:
        greedy = f"{verdict.n_same} of {verdict.n_greedy}"
        table.add_row(verdict.attention, f"{verdict.relative_error:.1e}", greedy, "ok" if verdict.passed else "DIFFERS")
    _console.print(table)
    if not all(verdict.passed for verdict in verdicts):
        raise typer.Exit(1)


@models.command("path")
def models_path(model: Annotated[str, typer.Argument()] = "shipped") -> None:
    """Prints a model's folder."""
    _console.print(str(model_folder(model)), soft_wrap=True, highlight=False)


@models.command("pull")
def models_pull(name: str) -> None:
    """Downloads a model from the Hugging Face hub; nothing else in midfill ever downloads."""
    from huggingface_hub import snapshot_download

    _console.print(snapshot_download(name, allow_patterns=HUB_FILES), soft_wrap=True, highlight=False)


_console = Console()


def main() -> None:
    """Runs the command line; what a person can mend is one line, not a traceback."""
    try:
        app(prog_name="midfill engine")
    except EngineError as error:
        Console(stderr=True).print(f"midfill: {error}", highlight=False, markup=False, soft_wrap=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
