"""A marked secret in each kind of refused file, edited and asked for at random; then the engine's memory, the logs, the
replies and every file that was written are searched for it. MIDFILL_PRIVACY=10000 makes it that many steps."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lsp_server.privacy import IGNORE_FILE
from tests.engine.conftest import checkpoint  # noqa: F401  a fixture
from tests.lsp_server.conftest import config_home
from tests.lsp_server.test_engine_faults import until_answered
from tests.lsp_server.wire import Wire

N_STEPS = int(os.environ.get("MIDFILL_PRIVACY", "400"))
SECRET, PUBLIC = "k7secret", "k7public"
NAMES = (
    *(".env", ".env.local", "prod.env", "server.key", "server.pem", "tls.crt", "id_rsa", ".netrc", ".npmrc", ".pypirc"),
    *("credentials.json", "secrets.yaml", ".git-credentials", "main.tfvars", ".ENV", "x.p12", ".env~", "kubeconfig"),
    *("listed.py", "globbed.py", ".ssh/config", ".aws/config"),
)


def uris(folder: Path) -> list[str]:
    """Gives a URI for each kind of refused file, and the spellings of one."""
    (folder / IGNORE_FILE).write_text("listed.*\n")
    for name in NAMES:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(SECRET)
    (folder / "link.py").symlink_to(folder / ".env")
    (folder / "keys").symlink_to(folder / ".ssh")
    base = folder.as_uri()
    return [
        *((folder / name).as_uri() for name in (*NAMES, "link.py", "keys/config")),
        *(f"{base}/%2Eenv", f"{base}/%252Eenv", f"{base}/src/..%2F.env", f"{base}/src%5C..%5C.env", f"{base}/.env%20"),
        *("untitled:.env", "untitled:Untitled-9", f"vscode-notebook-cell:{folder}/.env#W0"),
        f"git:{folder}/a.py?%7B%22path%22:%22{folder}/.env%22%7D",
    ]


class Session:
    """Refused documents and an open one, and whatever happens to them."""

    def __init__(self, wire: Wire, refused: list[str], seed: int) -> None:
        self.wire, self.refused, self._random = wire, refused, random.Random(seed)
        self._version, self.n_lines = 1, 1
        self.open_uri = "file:///project/open.py"
        for uri in refused:
            self._open(uri)
        wire.open(f"{PUBLIC} = 1\n", uri=self.open_uri, language="plaintext")

    def _open(self, uri: str) -> None:
        text = "".join(f"{SECRET.upper()}_{n}={self._secret()}\n" for n in range(3))
        self.wire.open(text, uri=uri, language="plaintext", version=self._version)

    def _secret(self) -> str:
        return f"{SECRET}{self._random.randrange(10**9)}"

    def step(self) -> None:
        uri = self._random.choice(self.refused)
        at = {"line": self._random.randrange(3), "character": self._random.randrange(12)}
        self._version += 1
        match self._random.randrange(6):
            case 0 | 1:
                change: dict[str, Any] = {"range": {"start": at, "end": at}, "text": self._secret() + "\n"}
                self.wire.change(change, uri=uri, version=self._version)
            case 2:
                self.wire.change({"text": f"A_KEY={self._secret()}\nB_KEY={self._secret()}\n"}, uri=uri, version=self._version)
            case 3:
                self.wire.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
                self._open(uri)
            case 4:
                assert self.wire.suggest(at, uri=uri, kind=self._random.choice((1, 2))) == []
                about = self.wire.ask("midfill/why", {"textDocument": {"uri": uri}})["result"]
                assert about["reason"] == "private"
            case _:
                start = {"line": 0, "character": 0}
                change = {"range": {"start": start, "end": start}, "text": f"{PUBLIC}{self._version} = \n"}
                self.wire.change(change, uri=self.open_uri, version=self._version)
                self.n_lines += 1
                self.wire.request_suggestion({"line": 0, "character": len(change["text"]) - 1}, uri=self.open_uri)


def memory_of(pid: int) -> Iterator[bytes]:
    """Reads what a process has in memory, piece by piece."""
    with open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            found = re.match(r"([0-9a-f]+)-([0-9a-f]+) r", line)
            if found and not line.endswith(("[vvar]", "[vsyscall]", "[vvar_vclock]")):
                start, end = int(found[1], 16), int(found[2], 16)
                try:
                    memory.seek(start)
                    yield memory.read(end - start)
                except (OSError, OverflowError, ValueError):
                    continue  # a mapping that can't be read from outside


def spellings(marker: str) -> list[bytes]:
    texts = (marker, marker.upper())
    return [text.encode(codec) for text in texts for codec in ("utf-8", "utf-16-le", "utf-32-le")]


def is_in(marker: str, data: bytes) -> bool:
    return any(each in data for each in spellings(marker))


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="another process's memory is read by way of /proc")
def test_no_secret_reaches_the_engine_its_logs_or_any_file(serve, private_env, checkpoint, tmp_path_factory) -> None:  # noqa: F811
    folder, home = tmp_path_factory.mktemp("work"), tmp_path_factory.mktemp("home")  # short, for a socket's path is bounded
    dirs = {f"XDG_{name}": home / name for name in ("RUNTIME_DIR", "STATE_HOME", "CACHE_HOME")}
    for each in dirs.values():
        each.mkdir(mode=0o700, parents=True)
    toml = 'idle_exit_s = 60\ndeadline_ms = 300\nmax_tokens = 4\nprivate_globs = ["globbed.*"]\n'
    env = config_home(home / "config", {**private_env, **{name: str(each) for name, each in dirs.items()}}, toml)
    options = ("--engine", "resident", "--model", str(checkpoint), "--threads", "1", "--log-level", "debug")
    wire = serve(*options, env=env)
    wire.start()
    session = Session(wire, uris(folder), seed=7)
    until_answered(wire, session.n_lines, 0, session.open_uri)
    for _ in range(N_STEPS):
        session.step()
    until_answered(wire, session.n_lines, 0, session.open_uri)

    pid = int(next(dirs["XDG_RUNTIME_DIR"].rglob("*.lock")).read_text())
    pieces = list(memory_of(pid))
    assert any(is_in(PUBLIC, each) for each in pieces), "the search itself must find what is there"
    assert not any(is_in(SECRET, each) for each in pieces)
    assert not is_in(SECRET, "\n".join(wire.log).encode())
    assert not is_in(SECRET, str(wire.notifications).encode())
    for path in home.rglob("*"):
        assert not path.is_file() or not is_in(SECRET, path.read_bytes()), path
    assert wire.stop() == 0
    os.kill(pid, 15)
