"""The server's tests keep their servers away from the user's own files; so do these."""

from tests.lsp_server.conftest import private_env

__all__ = ["private_env"]
