"""The log: where it goes, and the one line that each request leaves.

stdout belongs to JSON-RPC, so the log goes to stderr or a file. A document's text is never in it unless the user
asked with --log-text.
"""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lsp_server.stats import Stats

_log = logging.getLogger(__name__)

request_id: ContextVar[int | str | None] = ContextVar("request_id", default=None)  # of the message being handled


@dataclass(frozen=True, slots=True)
class Tracer:
    """Writes the request lines and adds up what they say; `log_text` lets suggested text into them."""

    log_text: bool = False
    stats: Stats = field(default_factory=Stats)

    def answered(self, version: int | None, counters: Any, text: str) -> None:
        """Logs what an answer cost, in the names and units of the engine's counters."""
        self.stats.answered(counters)
        first_ms = "-" if counters.first_ms is None else f"{counters.first_ms:.0f}"
        _log.info(
            f"suggest v={version} reused={counters.reused} prefilled={counters.prefilled} decoded={counters.decoded}"
            f" drafted={counters.drafted} queue_ms={counters.queue_ms:.0f} first_ms={first_ms}"
            f" total_ms={counters.total_ms:.0f} finish={counters.finish} chars={len(text)} id={request_id.get()}"
            + (f" text={text!r}" if self.log_text else "")
        )

    def silent(self, version: int | None, reason: str) -> None:
        """Logs a request that was answered with nothing and cost nothing."""
        _log.info("suggest v=%s none=%s id=%s", version, reason, request_id.get())


def configure(level: str, log_file: Path | None) -> None:
    """Sends the log to stderr or appends it to a file.

    pygls is silenced below critical: at INFO and ERROR it writes whole messages, and with them the user's text.
    """
    handler = logging.FileHandler(log_file, encoding="utf-8") if log_file else logging.StreamHandler(sys.stderr)
    logging.basicConfig(level=level.upper(), handlers=[handler], format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("pygls").setLevel(logging.CRITICAL + 1)
