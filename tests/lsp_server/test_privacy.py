"""What is refused, however it is spelled."""

from __future__ import annotations

from pathlib import Path

import pytest

from lsp_server.privacy import IGNORE_FILE, refusal

REFUSED = [
    "file:///p/.env",
    "file:///p/.env.local",
    "file:///p/prod.env",
    "file:///p/%2Eenv",
    "file:///p/%252Eenv",
    "file:///p/.ENV",
    "file:///p/.env%20",
    "file:///p/.env.",
    "file:///p/.env::$DATA",
    "file:///p/.env?x#y",
    "file:///p/src/..%2F.env",
    "file:///p/src%5C..%5C.env",
    "file:///c%3A/p/.env",
    "C:\\p\\.env",
    "untitled:.env",
    "vscode-notebook-cell:/p/.env#W0",
    "vscode-remote://ssh/p/.npmrc",
    "file:///p/id_rsa",
    "file:///p/server.key",
    "file:///p/server.PEM",
    "file:///p/server.crt",
    "file:///home/u/.netrc",
    "file:///home/u/.npmrc",
    "file:///home/u/.pypirc",
    "file:///home/u/.git-credentials",
    "file:///home/u/.aws/config",
    "file:///home/u/.ssh/known_hosts",
    "file:///p/credentials.json",
    "file:///p/secrets.yaml",
    "file:///p/main.tfvars",
]
ALLOWED = [
    "file:///p/main.py",
    "file:///p/environment.py",
    "file:///p/secrets.py",
    "file:///p/credentials.py",
    "file:///p/keyboard.ts",
    "file:///p/monkey.py",
    "file:///p/%C3%A9t%C3%A9.py",
    "file:///p/%ff.py",
    "file:///p/a%00b.py",
    "http://[broken/x.py",
    "untitled:Untitled-1",
    "",
]


@pytest.mark.parametrize("uri", REFUSED)
def test_files_that_hold_secrets_are_refused(uri) -> None:
    assert refusal(uri)


@pytest.mark.parametrize("uri", ALLOWED)
def test_code_is_not_refused(uri) -> None:
    assert not refusal(uri)


def test_a_symbolic_link_is_judged_by_both_its_ends(tmp_path) -> None:
    (tmp_path / ".env").write_text("KEY=1")
    (tmp_path / "plain.py").write_text("")
    (tmp_path / "link.py").symlink_to(tmp_path / ".env")
    (tmp_path / "linked.env").symlink_to(tmp_path / "plain.py")
    (tmp_path / "loop.py").symlink_to(tmp_path / "loop.py")
    assert refusal((tmp_path / "link.py").as_uri())
    assert refusal(tmp_path.as_uri() + "/linked.env")
    assert not refusal(tmp_path.as_uri() + "/loop.py")


def ignoring(folder: Path, patterns: str, path: str) -> bool:
    (folder / IGNORE_FILE).write_text(patterns)
    return refusal((folder / path).as_uri()) is not None


@pytest.mark.parametrize(
    ("patterns", "path", "refused"),
    [
        ("*.py", "a.py", True),
        ("*.py", "deep/down/a.py", True),
        ("/a.py", "a.py", True),
        ("/a.py", "deep/a.py", False),
        ("deep/", "deep/down/a.py", True),
        ("deep/*.py", "deep/a.py", True),
        ("**/down/", "deep/down/a.py", True),
        ("*.py\n!a.py", "a.py", False),
        ("# a.py\n\n", "a.py", False),
        ("A.PY", "a.py", True),
    ],
)
def test_the_user_lists_more_in_an_ignore_file(tmp_path, patterns, path, refused) -> None:
    assert ignoring(tmp_path, patterns, path) is refused


def test_the_nearest_ignore_file_has_the_last_word(tmp_path) -> None:
    (tmp_path / IGNORE_FILE).write_text("*.py")
    (tmp_path / "open").mkdir()
    assert not ignoring(tmp_path / "open", "!*.py", "a.py")
