"""Sessions on file: `midfill serve --record FILE` writes one, `midfill replay FILE` runs it again.

One message a line, with its direction and time. Unless asked otherwise text becomes its shape, character by character:
letters x or X, digits 9, and whatever is not ASCII another character of the same size. Lengths, columns, line ends,
brackets and what agrees with what stay as they were; names, numbers and words are gone.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TextIO

from lsp_server.settings import Settings

_KEPT = {"jsonrpc", "id", "method", "languageId", "kind", "command", "state", "token", "finish", "order", "window", "section"}
_KEPT_WHOLE = {"clientInfo", "serverInfo", "capabilities"}  # what the programs say of themselves
_TEXTS = {"text", "insertText", "filterText", "newText", "label"}
_CHOICES = {choice for each in fields(Settings) for choice in each.metadata.get("choices", ())}
_NAME = re.compile(r"[\w$./-]{1,40}", re.ASCII)  # of a field, not a file
_URI = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:\S*")
_SHAPES = str.maketrans(
    {
        **{chr(code): "x" for code in range(ord("a"), ord("z") + 1)},
        **{chr(code): "X" for code in range(ord("A"), ord("Z") + 1)},
        **{chr(code): "9" for code in range(ord("0"), ord("9") + 1)},
    }
)


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a session; `is_sent` where the server sent it."""

    at_s: float
    is_sent: bool
    body: dict[str, Any]


class Recorder:
    """Writes what passes by, in the order in which it does."""

    def __init__(
        self, file: TextIO, *, with_text: bool, is_private: Callable[[str, str, str], bool] = lambda *about: False
    ) -> None:
        """`is_private` judges by URI, language and text: none of such a document is written, whatever was asked."""
        self._file = file
        self._with_text = with_text
        self._is_private = is_private
        self._salt = secrets.token_bytes(16)  # kept nowhere: a guessed file name can't be confirmed
        self._start_s = time.monotonic()

    def received(self, body: bytes) -> None:
        self._write(body, is_sent=False)

    def sent(self, frame: bytes) -> None:
        self._write(frame.partition(b"\r\n\r\n")[2], is_sent=True)

    def _write(self, body: bytes, *, is_sent: bool) -> None:
        """Leaves out what is no message: it can't be made anonymous."""
        try:
            message = json.loads(body)
        except (ValueError, RecursionError):
            return
        if not isinstance(message, dict):
            return
        with_text = self._with_text and not any(self._is_private(*each) for each in _documents_in(message))
        body_kept = message if with_text else anonymous(message, self._salt)
        entry = {"at_s": round(time.monotonic() - self._start_s, 4), "is_sent": is_sent, "body": body_kept}
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()


def _documents_in(value: Any) -> Iterator[tuple[str, str, str]]:
    """Gives URI, language and text of each document in a message, the last two where it has them."""
    if isinstance(value, dict) and isinstance(value.get("uri"), str):
        yield value["uri"], str(value.get("languageId") or ""), str(value.get("text") or "")
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _documents_in(each)


def read(path: Path) -> Iterator[Message]:
    """Gives a recorded session's messages. Raises: ValueError where the file is none."""
    for n, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        try:
            entry = json.loads(line)
            yield Message(float(entry["at_s"]), bool(entry["is_sent"]), dict(entry["body"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}, line {n}: not a recorded message: {error}") from error


def anonymous(value: Any, salt: bytes, name: str = "") -> Any:
    """Gives a message without the user's text: shapes for it, and salted hashes for names of files."""
    if name in _KEPT_WHOLE:
        return value
    if isinstance(value, dict):
        return {each if _NAME.fullmatch(each) else shape(each): anonymous(inner, salt, each) for each, inner in value.items()}
    if isinstance(value, list):
        return [anonymous(each, salt, name) for each in value]
    if not isinstance(value, str) or name in _KEPT or (value in _CHOICES and name not in _TEXTS):
        return value
    if name.lower().endswith(("uri", "path")) or (name not in _TEXTS and _URI.fullmatch(value)):
        return _hashed(value, salt)
    return shape(value)


def shape(text: str) -> str:
    """Gives a text of the same length in characters, bytes and UTF-16 units, with the same line ends and brackets."""
    if text.isascii():
        return text.translate(_SHAPES)
    return "".join(each.translate(_SHAPES) if each.isascii() else _alike(each) for each in text)


def _alike(char: str) -> str:
    if char in "\x85\u2028\u2029\ufeff" or "\ud800" <= char <= "\udfff":
        return char
    return "é" if ord(char) < 0x800 else "あ" if ord(char) < 0x10000 else "😀"


def _hashed(uri: str, salt: bytes) -> str:
    """Gives a name of the same scheme and ending for a file."""
    ending = re.search(r"\.\w{1,8}\Z", uri)
    return f"file:///{hashlib.sha256(salt + uri.encode('utf-8', 'replace')).hexdigest()[:16]}{ending[0] if ending else ''}"
