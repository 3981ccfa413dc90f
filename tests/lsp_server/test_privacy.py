"""What is refused, however it is spelled."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lsp_server.privacy import IGNORE_FILE, may_be_context, refusal, refusal_by_text

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


COPIES = [
    "file:///p/.env~",
    "file:///p/.env.swp",
    "file:///p/..env.swp",
    "file:///p/server.key.bak",
    "file:///p/server.pem.orig",
    "file:///p/%23.netrc%23",
    "file:///p/.npmrc.1",
    "file:///p/id_rsa%20copy",
    "file:///p/Copy%20of%20credentials.json",
    "file:///p/server.key%20(2)",
    "untitled:server.pem-copy",
]
SPELLED = [
    "file:///p/.%EF%BD%85nv",
    "file:///p/.e%E2%80%8Bnv",
    "file:///p/%2e%45%4eV",
    "file:///p/a/%2e%2e/.env",
    "file:////server/share/.env",
    "file://localhost/p/.env",
    "file:///p/.env/",
    "file:///p/.env%2F",
    "git:/p/src/a.py?%7B%22path%22:%22/p/.env%22%7D",
    "review:/x?path=/p/.netrc&side=left",
    "vscode-local-history:/p/.env?1",
    "jupyter:/p/.env.ipynb",
]


@pytest.mark.parametrize("uri", [*COPIES, *SPELLED])
def test_a_copy_or_another_spelling_is_the_same_file(uri) -> None:
    assert refusal(uri)


@pytest.mark.parametrize(
    ("uri", "language", "text", "refused"),
    [
        ("untitled:Untitled-1", "plaintext", "API_KEY=abc\nDB_PASSWORD=x\n", True),
        ("untitled:Untitled-1", "plaintext", "# keys\nexport API_KEY=abc\n\nB_SECRET = x", True),
        ("untitled:Untitled-1", "plaintext", "-----BEGIN RSA PRIVATE KEY-----\nabc", True),
        ("untitled:Untitled-1", "dotenv", "", True),
        ("file:///p/settings", "dotenv", "", True),
        ("untitled:Untitled-1", "python", "A = 1\nprint(A)\n", False),
        ("untitled:Untitled-1", "plaintext", "Dear Sir,\n\nI am\n", False),
        ("untitled:Untitled-1", "plaintext", "", False),
        ("file:///p/constants.py", "python", "A=1\nB=2\n", False),
    ],
)
def test_a_document_without_a_file_is_judged_by_its_text(uri, language, text, refused) -> None:
    assert bool(refusal_by_text(uri, language, text)) is refused


def test_the_user_s_globs_are_refused_wherever_the_file_lies(tmp_path) -> None:
    assert refusal("file:///home/u/work/a.secret.py", ["*.secret.*"])
    assert refusal("file:///home/u/clients/acme/a.py", ["clients/acme/"])
    assert not refusal("file:///home/u/clients/other/a.py", ["clients/acme/"])
    (tmp_path / "real.py").write_text("")
    (tmp_path / "link.py").symlink_to(tmp_path / "real.py")
    assert refusal((tmp_path / "link.py").as_uri(), ["real.py"])


def test_an_ignore_file_that_can_not_be_read_refuses_what_is_below(tmp_path) -> None:
    (tmp_path / IGNORE_FILE).mkdir()
    assert refusal((tmp_path / "a.py").as_uri())


def test_what_is_in_a_refused_folder_can_not_be_taken_out_of_it_again(tmp_path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / IGNORE_FILE).write_text("keys/\n!keys/a.py\n")
    assert refusal((tmp_path / "keys" / "a.py").as_uri())


def test_what_git_ignores_is_completed_but_never_context(tmp_path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text("build/\n*.log\n!kept.log\n")
    (tmp_path / ".git" / "info" / "exclude").write_text("mine.py\n")
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / ".gitignore").write_text("made_*.py\n")
    for path, may in [
        ("a.py", True),
        ("build/a.py", False),
        ("x.log", False),
        ("kept.log", True),
        ("mine.py", False),
        ("src/made_a.py", False),
        ("made_a.py", True),
        (".env", False),
    ]:
        uri = (tmp_path / path).as_uri()
        assert may_be_context(uri) is may, path
        assert (refusal(uri) is None) is (path != ".env"), path
