"""midfill's own methods, next to LSP's: what editors report of a suggestion's fate, and what they may ask.

Parameters come as the client sent them; a report that can't be read is a log line.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lsp_server.judgement import why_off
from lsp_server.verdict import Reason, Verdict

if TYPE_CHECKING:
    from lsp_server.server import MidfillServer

_log = logging.getLogger(__name__)


def did_accept(ls: MidfillServer, *arguments: Any) -> None:
    """Is the command that comes with each item: the whole of it is in the document now."""
    if suggestion_id := _id_in(arguments[0] if arguments else None):
        ls.scheduler.accepted(suggestion_id, ls.settings)


def did_dismiss(ls: MidfillServer, params: Any) -> None:
    """Takes note that the user does not want a suggestion."""
    if suggestion_id := _id_in(params):
        ls.scheduler.dismissed(suggestion_id)


async def status(ls: MidfillServer, params: Any) -> dict[str, Any]:
    """Tells what the engine is and does, and what the last answer cost."""
    about = asdict(await ls.scheduler.status())
    if not ls.settings.enabled:
        about["state"] = "disabled"
    return about | {"last": ls.scheduler.last and asdict(ls.scheduler.last)}


def why(ls: MidfillServer, params: Any) -> dict[str, Any]:
    """Tells the last decision at a document: why there was a suggestion or none."""
    about = params.get("textDocument") if isinstance(params, dict) else None
    uri = about.get("uri") if isinstance(about, dict) else None
    document = ls.documents.get(uri) if isinstance(uri, str) else None
    if document is None:
        verdict = Verdict(Reason.NOT_OPEN)
    else:
        verdict = why_off(document, ls.settings) or ls.scheduler.why(document.uri) or Verdict(Reason.NOT_ASKED)
    return {"reason": str(verdict.reason), "detail": verdict.detail, "about": verdict.about}


def _id_in(params: Any) -> str | None:
    suggestion_id = params.get("id") if isinstance(params, dict) else None
    if isinstance(suggestion_id, str):
        return suggestion_id
    _log.warning("a report about a suggestion must hold its id, a text; got %.80r", params)
    return None


METHODS: dict[str, Callable[..., Any]] = {
    "midfill/didDismiss": did_dismiss,
    "midfill/status": status,
    "midfill/why": why,
}
