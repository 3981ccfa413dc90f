"""A language server that offers nothing, for eglot to run beside midfill."""

from pygls.lsp.server import LanguageServer

LanguageServer("other", "1").start_io()
