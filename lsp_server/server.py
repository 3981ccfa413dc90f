"""The language server: its parts, what it offers, and a short handler for each message."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pygls.lsp.server import LanguageServer

from lsp_server import conversion, extensions, protocol, sync
from lsp_server.backend import end_process_of, open_from
from lsp_server.clients import TriggerKinds
from lsp_server.documents import Change, DocumentStore
from lsp_server.privacy import is_refused
from lsp_server.recording import Recorder
from lsp_server.scheduler import Scheduler
from lsp_server.settings import Settings, apply
from lsp_server.status import StatusWatch
from lsp_server.stdio import Writer, read_messages, wait_for_death
from lsp_server.suggestions import Suggestion
from lsp_server.tracing import Tracer, request_id

_log = logging.getLogger(__name__)

_SECTION = "midfill"
_SAVE_EVERY_S = 60.0
_NOTEBOOKS = types.NotebookDocumentSyncOptions([types.NotebookDocumentFilterWithNotebook(notebook="*")])


class MidfillServer(LanguageServer):
    """Holds the settings, the documents and the scheduler, and speaks over stdio."""

    protocol: protocol.MidfillProtocol

    def __init__(self, settings: Settings, *, version: str, tracer: Tracer, problems: tuple[str, ...] = ()) -> None:
        super().__init__("midfill", version, notebook_document_sync=_NOTEBOOKS, protocol_cls=protocol.MidfillProtocol)
        self.settings = self.base_settings = settings
        self.watching: list[asyncio.Future[None]] = []  # held, for a task that nothing holds may be collected
        self.problems = problems  # of the user's own settings, found before there was an editor to tell
        self.documents = DocumentStore(lambda uri, language, text: is_refused(uri, language, text, self.settings.private_globs))
        self.scheduler = Scheduler(lambda: open_from(settings), tracer, end_process_of(settings))
        self.stats = tracer.stats
        self.watch = StatusWatch(self.status, self.tell_status)
        self.loading: conversion.Loading | None = None
        self.recorder: Recorder | None = None
        self.protocol.on_unreadable_change = self.lose
        for method, handler, options in _FEATURES:
            self.feature(method, options)(handler)
        for method, handler in extensions.METHODS.items():
            self.feature(method)(handler)
        self.command(conversion.DID_ACCEPT)(_did_accept)

    def serve(self) -> int:
        """Speaks over stdin and stdout until told to exit or left alone; gives the exit code."""
        return asyncio.run(self._serve())

    async def _serve(self) -> int:
        self._exit_code: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.protocol.on_exit = self.stop
        with contextlib.suppress(NotImplementedError):  # Windows
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.stop, 1)
        self.protocol.set_writer(Writer(sys.stdout.buffer, lambda: self.stop(1), self.recorder.sent if self.recorder else None))
        reading = asyncio.create_task(self._read(sys.stdin.fileno()))
        await asyncio.wait((reading, self._exit_code), return_when=asyncio.FIRST_COMPLETED)
        if reading.done():
            reading.result()  # raises a fault of ours, which would otherwise leave a server that reads no more
        reading.cancel()
        await self.aclose()
        return await self._exit_code

    async def keep_counts(self) -> None:
        """Saves what was counted now and then: not every server ends in peace."""
        while True:
            await asyncio.sleep(_SAVE_EVERY_S)
            self.stats.save()

    async def aclose(self) -> None:
        """Ends all that runs, and keeps what was counted."""
        for task in self.watching:
            task.cancel()
        await asyncio.gather(*self.watching, return_exceptions=True)
        await self.scheduler.aclose()
        self.stats.save()

    async def _read(self, stdin: int) -> None:
        async for body in read_messages(stdin):
            if self.recorder:
                self.recorder.received(body)
            self.protocol.receive(body)
            # One pass of the loop, so that a request's handler takes its snapshot before the next message changes it.
            await asyncio.sleep(0)
        self.stop(1)

    def stop(self, code: int) -> None:
        """Ends `serve`; the first reason stands."""
        if not self._exit_code.done():
            self._exit_code.set_result(code)

    async def watch_client(self, client_pid: int) -> None:
        """Ends the server when the editor died without closing its end of the pipe, which its children may hold open."""
        await wait_for_death(client_pid)
        _log.error("the client, process %d, is gone", client_pid)
        self.stop(1)

    async def suggest(
        self, uri: str, position: types.Position, *, invoked: bool, selected: Change | None = None
    ) -> tuple[Suggestion, ...]:
        """Answers a request, whatever happens; with an item selected in a menu, as if that had been chosen."""
        document = self.documents.get(uri)
        if document is None:
            _log.warning("no suggestion for %s: the document is not open", uri)
            return ()
        started_s = time.monotonic()
        self.watch.nudge()
        try:
            query = conversion.query_from(document, position, invoked, selected)
            suggestions = await self.scheduler.suggest(query, self.settings)
        except Exception:
            _log.exception("request %r failed", request_id.get())
            return ()
        if suggestions:
            self.stats.took((time.monotonic() - started_s) * 1000)
            self.stats.offered(suggestions[0].id, len(suggestions[0].text))
        self.watch.nudge()
        return suggestions

    async def status(self) -> dict[str, Any]:
        """Tells what the engine is and does, and what the last answer cost."""
        status = asdict(await self.scheduler.status())
        if not self.settings.enabled:
            status["state"] = "disabled"
        return status | {"last": self.scheduler.last and asdict(self.scheduler.last)}

    def tell_status(self, status: dict[str, Any]) -> None:
        """Sends the editor what it did not ask for: the status, and how far loading is."""
        self.protocol.notify("midfill/didChangeStatus", status)
        if self.loading:
            self.loading.tell(status)

    def lose(self, uri: str) -> None:
        """Gives up a document that can't be followed any longer."""
        self.documents.lose(uri)
        self.scheduler.closed(uri)

    def configure(self, values: object, *, source: str) -> None:
        """Takes settings from the editor, over those that were there at the start."""
        checked = apply(self.base_settings, values, by_user=False)
        self.settings = checked.settings
        for uri in self.documents.rejudge():
            self.scheduler.closed(uri)
        self.report_problems(source, checked.problems)
        self.watch.nudge()

    def report_problems(self, source: str, problems: tuple[str, ...]) -> None:
        """Tells the user all that is wrong with some settings, in one message."""
        if problems:
            self.tell(types.MessageType.Warning, f"{source}: " + "; ".join(problems))

    def tell(self, kind: types.MessageType, message: str) -> None:
        _log.warning(message)
        self.window_show_message(types.ShowMessageParams(kind, f"midfill: {message}"))

    def report_server_error(self, error: Exception, source: Any) -> None:
        """Logs what pygls would pop up in front of the user."""
        _log.error("while handling a message: %s", error, exc_info=error)


def _initialize(ls: MidfillServer, params: types.InitializeParams) -> None:
    ls.documents.encoding = conversion.encoding_of(params.capabilities)
    ls.configure(params.initialization_options, source="initializationOptions")
    ls.base_settings = ls.settings
    client = conversion.client_from(params)
    ls.protocol.trigger_kinds = TriggerKinds(client)
    ls.scheduler.client_waits = client.waits
    if ls.settings.completion_fallback == "off" or (ls.settings.completion_fallback == "auto" and client.shows_inline):
        del ls.protocol.fm.features[types.TEXT_DOCUMENT_COMPLETION]  # what is not there is not offered
    if params.process_id is not None:
        ls.watching.append(asyncio.ensure_future(ls.watch_client(params.process_id)))


async def _initialized(ls: MidfillServer, params: types.InitializedParams) -> None:
    if reason := ls.scheduler.start():
        ls.tell(types.MessageType.Error, f"there will be no suggestions: {reason}")
    ls.report_problems("your settings", ls.problems)
    window = ls.client_capabilities.window
    if window and window.work_done_progress:
        ls.loading = conversion.Loading(ls.work_done_progress)
    ls.watching += (asyncio.ensure_future(ls.watch.run()), asyncio.ensure_future(ls.keep_counts()))
    await _pull_configuration(ls)


async def _change_configuration(ls: MidfillServer, params: types.DidChangeConfigurationParams) -> None:
    if not await _pull_configuration(ls):
        pushed = params.settings
        ls.configure(pushed.get(_SECTION) if isinstance(pushed, dict) else pushed, source="settings")


async def _pull_configuration(ls: MidfillServer) -> bool:
    """Asks the editor for our settings; False where it can't be asked."""
    workspace = ls.client_capabilities.workspace
    if not (workspace and workspace.configuration):
        return False
    items = [types.ConfigurationItem(section=_SECTION)]
    try:
        answer = await ls.workspace_configuration_async(types.ConfigurationParams(items))
    except JsonRpcException as error:
        _log.warning("the editor gave no settings: %s", error)
    else:
        ls.configure(answer[0] if answer else None, source="settings")
    return True


async def _inline_completion(ls: MidfillServer, params: types.InlineCompletionParams) -> types.InlineCompletionList:
    uri, selected, invoked = params.text_document.uri, conversion.selected_from(params), conversion.is_invoked(params)
    document = ls.documents.get(uri)
    suggestions = await ls.suggest(uri, params.position, invoked=invoked, selected=selected)
    return conversion.to_list(document, suggestions, selected)


async def _completion(ls: MidfillServer, params: types.CompletionParams) -> types.CompletionList:
    document = ls.documents.get(params.text_document.uri)
    return conversion.to_completions(document, await ls.suggest(params.text_document.uri, params.position, invoked=False))


def _did_accept(ls: MidfillServer, *arguments: Any) -> None:
    extensions.did_accept(ls, *arguments)  # from here, for pygls looks the annotations of a command up in its module


_FEATURES: tuple[tuple[str, Callable[..., Any], Any], ...] = (
    (types.INITIALIZE, _initialize, None),
    (types.INITIALIZED, _initialized, None),
    (types.WORKSPACE_DID_CHANGE_CONFIGURATION, _change_configuration, None),
    (types.TEXT_DOCUMENT_DID_OPEN, sync.open_document, None),
    (types.TEXT_DOCUMENT_DID_CHANGE, sync.change_document, None),
    (types.TEXT_DOCUMENT_DID_CLOSE, sync.close_document, None),
    (types.NOTEBOOK_DOCUMENT_DID_OPEN, sync.open_notebook, None),
    (types.NOTEBOOK_DOCUMENT_DID_CHANGE, sync.change_notebook, None),
    (types.NOTEBOOK_DOCUMENT_DID_CLOSE, sync.close_notebook, None),
    # Not "(", "," or ":", behind which a person presses Enter, which in a menu accepts; and not nothing: some editors read
    # empty options as no offer.
    (types.TEXT_DOCUMENT_COMPLETION, _completion, types.CompletionOptions(trigger_characters=[".", " "])),
    # Without options pygls does not advertise the capability.
    (types.TEXT_DOCUMENT_INLINE_COMPLETION, _inline_completion, types.InlineCompletionOptions()),
)
