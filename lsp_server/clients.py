"""What editors do differently, by the name and the capabilities that they announce.

Each line here was read in the client's source or seen on the wire; each has a test in tests/lsp_server/test_clients.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

INVOKED, AUTOMATIC = 1, 2  # LSP's trigger kinds

# VS Code and its children wait by rhythm and cost, Neovim 200 ms, lsp-mode and our Emacs client (on Eglot) for idle time.
_WAITING = ("visual studio code", "vscod", "code - oss", "code-server", "cursor", "windsurf", "neovim", "eglot", "emacs")
_OF_VSCODE = ("visual studio code", "vscod", "code - oss", "code-server", "cursor", "windsurf")
# lsp-mode asks for inline completions without announcing that it can.
_INLINE_UNANNOUNCED = ("emacs",)


@dataclass(frozen=True, slots=True)
class Client:
    """The editor at the other end."""

    name: str = ""
    announces_inline: bool = True

    @property
    def waits(self) -> bool:
        """Tells whether it asks only once the typing rests."""
        return self._is_one_of(_WAITING)

    @property
    def is_vscode(self) -> bool:
        return self._is_one_of(_OF_VSCODE)

    @property
    def shows_inline(self) -> bool:
        """Tells whether it shows ghost text, or needs its suggestions in the completion menu."""
        return self.announces_inline or self._is_one_of(_INLINE_UNANNOUNCED)

    def _is_one_of(self, starts: tuple[str, ...]) -> bool:
        return self.name.casefold().startswith(starts)


class TriggerKinds:
    """Reads trigger kinds of either numbering: LSP's, and VS Code's own, which vscode-languageclient 9 passes on.

    There 0 is invoked and 1, LSP's invoked, automatic. The first 0 or 2 tells which one a client speaks; until then VS Code's
    1 is taken for automatic, because it comes at every key, and an alternative at every key would be dear.
    """

    def __init__(self, client: Client) -> None:
        self._is_vscodes = client.is_vscode

    def read(self, kind: Any) -> Any:
        """Gives LSP's number; what is no kind at all stays as it is, for others to refuse."""
        if isinstance(kind, bool) or kind not in (0, INVOKED, AUTOMATIC):
            return kind
        if kind in (0, AUTOMATIC):
            self._is_vscodes = kind == 0
            return AUTOMATIC if kind else INVOKED
        return AUTOMATIC if self._is_vscodes else INVOKED
