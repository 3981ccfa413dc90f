"""The whole way: an LSP client opens a document, types, asks, and gets code from the model that ships."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from lsprotocol import types
from pygls.exceptions import JsonRpcRequestCancelled
from pytest_lsp import ClientServerConfig, LanguageClient

from tests.lsp_server.conftest import config_home
from tests.lsp_server.places import cursor_after, split

URI = "file:///project/shapes.py"
BEFORE_TYPING = "def area(width, height):\n    ┃\n\n\nprint(area(2, 3))\n"
# The machine may be busy, and a small model is rarely sure: neither the deadline nor the gate is what is tested here.
PATIENT = {"deadline_ms": 60_000, "gate": False}


async def start(env: dict[str, str], *options: str) -> LanguageClient:
    # One thread: several of them slow each other down a hundredfold where the tests share their cores with other work.
    command = [sys.executable, "-m", "lsp_server", "serve", "--log-level", "error", "--threads", "1", *options]
    client = await ClientServerConfig(server_command=command, server_env=env).start()
    assert isinstance(client, LanguageClient)
    general = types.GeneralClientCapabilities(position_encodings=[types.PositionEncodingKind.Utf8])
    params = types.InitializeParams(types.ClientCapabilities(general=general), initialization_options=PATIENT)
    result = await client.initialize_session(params)
    assert result.capabilities.inline_completion_provider
    return client


@pytest.fixture
async def client(private_env) -> AsyncIterator[LanguageClient]:
    """A client of a server that holds the shipped model itself."""
    started = await start(private_env, "--engine", "in-process")
    yield started
    await started.shutdown_session()
    await started.stop()


@pytest.fixture
async def resident_client(private_env, tmp_path) -> AsyncIterator[LanguageClient]:
    """A client of a server whose engine is a process of its own, which leaves soon after."""
    env = config_home(tmp_path, private_env, "idle_exit_s = 1\n")
    started = await start(env, "--engine", "resident")
    yield started
    await started.shutdown_session()
    await started.stop()
    while [*Path(env["XDG_RUNTIME_DIR"]).rglob("*.sock")]:
        await asyncio.sleep(0.05)


class Editor:
    """One document in an editor, and the cursor in it."""

    def __init__(self, client: LanguageClient, marked: str) -> None:
        self.client = client
        self.before, self._after = split(marked)
        self._version = 1
        # Plain text, for what a small model writes need not parse, and would not be shown then.
        item = types.TextDocumentItem(URI, "plaintext", self._version, self.before + self._after)
        client.text_document_did_open(types.DidOpenTextDocumentParams(item))

    @property
    def cursor(self) -> types.Position:
        return types.Position(**cursor_after(self.before, "utf-8"))

    def type(self, text: str) -> None:
        self._version += 1
        edit = types.TextDocumentContentChangePartial(types.Range(self.cursor, self.cursor), text)
        document = types.VersionedTextDocumentIdentifier(self._version, URI)
        self.client.text_document_did_change(types.DidChangeTextDocumentParams(document, [edit]))
        self.before += text

    def params(self) -> types.InlineCompletionParams:
        context = types.InlineCompletionContext(types.InlineCompletionTriggerKind.Automatic)
        return types.InlineCompletionParams(context, types.TextDocumentIdentifier(URI), self.cursor)

    async def suggest(self) -> str | None:
        answer = await self.client.text_document_inline_completion_async(self.params())
        assert isinstance(answer, types.InlineCompletionList)
        if not answer.items:
            return None
        [item] = answer.items
        assert item.range == types.Range(self.cursor, self.cursor)
        return item.insert_text


async def status(client: LanguageClient):
    return await client.protocol.send_request_async("midfill/status", {})


async def check_first_light(client: LanguageClient, marked: str) -> None:
    """Open, type, ask, and type into what is shown."""
    editor = Editor(client, marked)
    editor.type("return ")
    suggestion = await editor.suggest()
    assert suggestion
    first = await status(client)
    assert (first.model, first.last.finish) != ("scripted", "shown")
    assert first.last.prefilled + first.last.reused == first.last.prompt > 0
    for idx, char in enumerate(suggestion[:-1]):
        editor.type(char)
        assert await editor.suggest() == suggestion[idx + 1 :]
        last = (await status(client)).last
        assert (last.finish, last.prefilled, last.decoded, last.wasted) == ("shown", 0, 0, 0)


async def test_typing_is_completed_by_the_shipped_model(client) -> None:
    await check_first_light(client, BEFORE_TYPING)


async def test_typing_is_completed_by_a_resident_engine_that_others_may_share(resident_client) -> None:
    await check_first_light(resident_client, "# 😀 é\n" + BEFORE_TYPING)


async def test_a_cancelled_request_is_an_error_and_the_engine_is_free_for_the_next(client) -> None:
    editor = Editor(client, BEFORE_TYPING)
    editor.type("return ")
    suggestion = await editor.suggest()  # the model is loaded from here on
    assert suggestion
    editor.type("[" if suggestion[0] == "(" else "(")  # else memory would answer
    request = client.protocol.send_request_async(types.TEXT_DOCUMENT_INLINE_COMPLETION, editor.params(), msg_id="asked")
    asked = asyncio.create_task(request)
    await asyncio.sleep(0)  # sends it
    client.cancel_request(types.CancelParams("asked"))
    with pytest.raises(JsonRpcRequestCancelled) as error:
        await asked
    assert error.value.code == -32800
    while (await status(client)).state != "ready":
        await asyncio.sleep(0.01)
    editor.type("width ")
    await editor.suggest()
    assert (await status(client)).last.prefilled > 0


async def test_a_request_while_the_model_loads_waits_or_is_answered_with_nothing(private_env) -> None:
    client = await start(private_env, "--engine", "in-process")
    editor = Editor(client, BEFORE_TYPING)
    editor.type("return width ")
    first, loading = await asyncio.gather(editor.suggest(), status(client))
    assert loading.state in ("loading", "warming", "ready", "busy")
    assert first is None or first  # an error would have been raised
    await client.shutdown_session()
    await client.stop()
