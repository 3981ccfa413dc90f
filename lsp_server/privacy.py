"""What may never reach the engine: files whose very purpose is to hold secrets, and what the user lists.

The decision is made once, from the URI, when a document is opened and before any of its text is kept. Spelling
does not help: percent-encoding (also doubled), case, `..`, trailing dots and symbolic links are resolved first,
and both the name as given and the file it leads to are judged. User globs: `.midfillignore` in any folder above
the file, in .gitignore's syntax without character classes' finer points.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import unquote, urlsplit

IGNORE_FILE = ".midfillignore"

# Data files only where a source file may bear the same name: secrets.py is code like any other.
_SECRET_NAMES = (
    *(".env*", "*.env", ".flaskenv", "*.tfvars", "*.tfstate", "*.secret", "*.secrets", "*service-account*.json"),
    *("secret*.json", "secret*.yml", "secret*.yaml", "secret*.toml", "secret*.ini", "secret*.txt"),
    *("credentials", "*credentials.json", "*credentials.yml", "*credentials.yaml", "*credentials.toml", "*credentials.ini"),
    *("*.pem", "*.key", "*.p8", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdb", "*.kdbx", "*.ppk", "*.asc", "*.gpg", "*.pgp"),
    *("*.crt", "*.cer", "*.der", "*.csr", "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "*.ovpn", "*.mobileprovision"),
    *(".netrc", "_netrc", ".npmrc", ".yarnrc", ".yarnrc.yml", ".pypirc", ".pgpass", ".my.cnf", ".htpasswd", ".dockercfg"),
    ".git-credentials",
)
_SECRET_FOLDERS = (".ssh", ".aws", ".gnupg", ".kube", ".azure", ".password-store")


def is_refused(uri: str) -> bool:
    """Tells whether a document may not be read, whatever it holds.

    A path that can't be resolved is judged by its name alone; an `untitled:` one always is.
    """
    scheme, path = _parse(uri)
    named = posixpath.normpath(path)
    paths = {named}
    if scheme in ("", "file", "vscode-notebook-cell", "vscode-userdata"):
        paths.add(_resolve(named))
    return any(_is_secret(each) or _is_ignored(each) for each in paths)


def _parse(uri: str) -> tuple[str, str]:
    """Gives scheme and decoded path; backslashes count as slashes, for a Windows client's sake."""
    try:
        parts = urlsplit(uri)
        scheme, path = parts.scheme, parts.path
    except ValueError:  # an unclosed bracket in the host
        scheme, path = "", uri
    while (decoded := unquote(path)) != path:
        path = decoded
    return scheme, path.replace("\\", "/").replace("\0", "")


def _resolve(path: str) -> str:
    try:
        return Path(path).resolve().as_posix()
    except (OSError, RuntimeError, ValueError):
        return path


def _is_secret(path: str) -> bool:
    *folders, name = (part.rstrip(". ").partition(":")[0].casefold() for part in path.split("/"))  # NTFS drops and hides these
    return any(fnmatchcase(name, pattern) for pattern in _SECRET_NAMES) or any(each in _SECRET_FOLDERS for each in folders)


def _is_ignored(path: str) -> bool:
    """Reads the ignore files from the root down, so that the nearest has the last word."""
    refused = False
    if not Path(path).is_absolute():
        return refused
    for folder in reversed(Path(path).parents):
        try:
            patterns = (folder / IGNORE_FILE).read_text(encoding="utf-8", errors="replace").splitlines()
        except (OSError, ValueError):
            continue
        refused = _last_word(patterns, posixpath.relpath(path, folder.as_posix()), refused)
    return refused


def _last_word(patterns: Iterable[str], path: str, refused: bool) -> bool:
    for line in patterns:
        pattern = line.strip().casefold()
        if pattern and not pattern.startswith("#") and _matches(pattern.removeprefix("!"), path.casefold()):
            refused = not pattern.startswith("!")
    return refused


def _matches(pattern: str, path: str) -> bool:
    """Matches a file or any folder above it; a pattern without an inner slash matches at any depth."""
    pattern = pattern.rstrip("/").removeprefix("**/")
    anchored = "/" in pattern
    pattern = pattern.lstrip("/")
    parts = path.split("/")
    heads = ["/".join(parts[: n + 1]) for n in range(len(parts))]
    return any(fnmatchcase(head if anchored else part, pattern) for head, part in zip(heads, parts, strict=True))
