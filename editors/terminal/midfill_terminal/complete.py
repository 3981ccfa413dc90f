"""`midfill complete`: asks the real server for suggestions at places in a file and prints them as an editor shows them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from rich.console import Console

from midfill_terminal.ghost import draw
from midfill_terminal.places import Place, PlaceError, find_places
from midfill_terminal.session import NoModel, open_session


def run(spec: str, serve_args: list[str], svg: Path | None = None) -> int:
    """Prints the suggestion at each place that the spec names, and the picture to `svg`; gives the exit code."""
    errors = Console(stderr=True, soft_wrap=True)
    console = Console(record=svg is not None, width=100 if svg is not None else None)
    try:
        asyncio.run(_run(find_places(spec), serve_args, console))
    except PlaceError as error:
        errors.print(f"midfill: {error}", highlight=False, markup=False)
        return 2
    except NoModel as error:
        errors.print(f"midfill: {error}", highlight=False, markup=False)
        return 1
    if svg is not None:
        console.save_svg(str(svg), title=f"midfill complete {spec}")
    return 0


async def _run(places: list[Place], serve_args: list[str], console: Console) -> None:
    async with open_session(serve_args) as session:
        with console.status("starting the engine") as spinner:

            def on_status(status: dict[str, Any]) -> None:
                share = "" if status["progress"] is None else f" {status['progress']:.0%}"
                spinner.update(f"{status['state']}{share}: {status['model']}")

            await session.wait_until_ready(on_status)
        session.open(places[0])
        for place in places:
            suggestions = await session.suggest(place)
            console.print(draw(place, suggestions[0] if suggestions else None, await session.status()))
