"""midfill's own methods, next to LSP's: what editors report of a suggestion's fate, and what they may ask.

Parameters come as the client sent them; a report that can't be read is a log line.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lsp_server.judgement import why_off
from lsp_server.stats import KEPT_AFTER_S, n_kept
from lsp_server.suggestions import Completion, Served
from lsp_server.verdict import Reason, Verdict

if TYPE_CHECKING:
    from lsp_server.server import MidfillServer

_log = logging.getLogger(__name__)


def did_accept(ls: MidfillServer, *arguments: Any) -> None:
    """Is the command that comes with each item: the whole of it is in the document now."""
    if found := _find(ls, arguments[0] if arguments else None):
        served, choice = found
        ls.scheduler.accepted(choice.id, ls.settings)
        ls.stats.count("accepted")
        ls.stats.count("chars_accepted", len(choice.text))
        asyncio.get_running_loop().call_later(KEPT_AFTER_S, _look_again, ls, served, choice)


def did_show(ls: MidfillServer, params: Any) -> None:
    """Counts what the user really saw; what was served may have come too late."""
    if _find(ls, params):
        ls.stats.count("shown")


def did_partially_accept(ls: MidfillServer, params: Any) -> None:
    """Counts a word or a line that was taken; that the rest stays needs no report."""
    if found := _find(ls, params):
        n_units = params.get("acceptedLength")
        if isinstance(n_units, int) and not isinstance(n_units, bool) and n_units > 0:
            ls.stats.taken_in_part(found[1].id, len(found[1].text), n_units)
        else:
            _log.warning("acceptedLength must be a number of UTF-16 units above 0, got %.80r", n_units)


def did_dismiss(ls: MidfillServer, params: Any) -> None:
    """Takes note that the user does not want a suggestion."""
    if found := _find(ls, params):
        ls.scheduler.dismissed(found[1].id)
        ls.stats.count("dismissed")


async def status(ls: MidfillServer, params: Any) -> dict[str, Any]:
    """Tells what the engine is and does, and what the last answer cost."""
    return await ls.status()


def why(ls: MidfillServer, params: Any) -> dict[str, Any]:
    """Tells the last decision at a document: why there was a suggestion or none."""
    about = params.get("textDocument") if isinstance(params, dict) else None
    uri = about.get("uri") if isinstance(about, dict) else None
    document = ls.documents.get(uri) if isinstance(uri, str) else None
    if document is None:
        verdict = Verdict(Reason.NOT_OPEN)
    else:
        verdict = why_off(document, ls.settings) or ls.scheduler.verdicts.get(document.uri) or Verdict(Reason.NOT_ASKED)
    return {"reason": str(verdict.reason), "detail": verdict.detail, "about": verdict.about}


def stats(ls: MidfillServer, params: Any) -> dict[str, Any]:
    """Gives the local counters of all sessions."""
    return ls.stats.summary()


async def restart_engine(ls: MidfillServer, params: Any) -> dict[str, Any]:
    """Ends the engine, in every window, and has it started afresh; gives its status then."""
    await ls.scheduler.restart()
    ls.watch.nudge()
    return await ls.status()


def _find(ls: MidfillServer, params: Any) -> tuple[Served, Completion] | None:
    """Gives the suggestion that a report is about; one of a document closed since is forgotten."""
    suggestion_id = params.get("id") if isinstance(params, dict) else None
    if isinstance(suggestion_id, str):
        return ls.scheduler.find(suggestion_id)
    _log.warning("a report about a suggestion must hold its id, a text; got %.80r", params)
    return None


def _look_again(ls: MidfillServer, served: Served, accepted: Completion) -> None:
    document = ls.documents.get(served.query.document.uri)
    if document and not document.private:
        kept = n_kept(document.text, served.query.offset, accepted.prompt.prefix, accepted.text)
        ls.stats.kept(kept, len(accepted.text))


METHODS: dict[str, Callable[..., Any]] = {
    "midfill/didShow": did_show,
    "midfill/didPartiallyAccept": did_partially_accept,
    "midfill/didDismiss": did_dismiss,
    "midfill/status": status,
    "midfill/why": why,
    "midfill/stats": stats,
    "midfill/restartEngine": restart_engine,
}
