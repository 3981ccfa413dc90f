"""What may never reach the engine: files whose very purpose is to hold secrets, and what the user lists.

The decision is made from the URI when a document is opened, before any of its text is kept; a document without a
file is judged by its text too. Spelling does not help: percent-encoding (also doubled), case, look-alike letters, `..`,
trailing dots, the names of back-up copies and symbolic links are resolved first, and both the name as given and
the file it leads to are judged. The user lists more in `.midfillignore`, in any folder above the file, and in the
setting `private_globs`.
"""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import unquote, urlsplit

from lsp_server.globs import lists_above, match_in, read_list, why_ignored

IGNORE_FILE = ".midfillignore"

# Data files only where a source file may bear the same name: secrets.py is code like any other.
_SECRET_NAMES = (
    *(".env*", "*.env", ".flaskenv", ".envrc", "*.tfvars", "*.tfvars.json", "*.tfstate", "*.secret", "*.secrets"),
    *("secret*.json", "secret*.yml", "secret*.yaml", "secret*.toml", "secret*.ini", "secret*.txt", "secret", "secrets"),
    *("credentials", "*credentials.json", "*credentials.yml", "*credentials.yaml", "*credentials.toml", "*credentials.ini"),
    *("*credentials.csv", "*credentials.xml", "*credentials.properties", "*credentials.txt", "*service-account*.json"),
    *("client_secret*.json", "application_default_credentials.json", "*.publishsettings", "*accesskeys.csv"),
    *("passwords.*", "password.txt", "*.kwallet", "*.agilekeychain", "*.keychain", "*.keychain-db", "logins.json"),
    *("*.pem", "*.key", "*.p8", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdb", "*.kdbx", "*.ppk", "*.asc", "*.gpg", "*.pgp"),
    *("*.crt", "*.cer", "*.der", "*.csr", "*.ca-bundle", "*.ovpn", "*.mobileprovision", "*.provisionprofile"),
    *("id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "authorized_keys", "known_hosts", "ssh_host_*_key"),
    *(".netrc", "_netrc", ".npmrc", ".yarnrc", ".yarnrc.yml", ".pypirc", ".pgpass", ".my.cnf", ".htpasswd", ".dockercfg"),
    *(".git-credentials", ".s3cfg", ".boto", ".vault-token", ".msmtprc", ".fetchmailrc", ".curlrc", ".wgetrc", ".authinfo"),
    *(".authinfo.gpg", ".rclone.conf", "rclone.conf", ".terraformrc", "terraform.rc", ".cargo-credentials", "kubeconfig"),
    *("*.kubeconfig", "hub.token", "*.pat"),
)
_SECRET_FOLDERS = (".ssh", ".aws", ".gnupg", ".kube", ".azure", ".password-store", ".docker", ".gcloud", ".oci")
_SECRET_ENDS = (".cargo/credentials", ".cargo/credentials.toml", ".config/gh/hosts.yml", "shadow", "etc/passwd-")
_SECRET_LANGUAGES = ("dotenv", "env", "pem")
_SECRET_TEXT = re.compile(r"\s*-----BEGIN |(?:\s*(?:#.*|(?:export\s+)?[A-Z][A-Z0-9_]*[ ]*=.*)?(?:\n|\Z)){2,}\Z")
_ASSIGNS = re.compile(r"^(?:export\s+)?[A-Z][A-Z0-9_]*[ ]*=", re.MULTILINE)
_MAX_TEXT_CHARS = 20_000  # of a document without a file, which is judged by its text
# What editors and people add to a file's name to keep a copy of it.
_COPY = re.compile(
    r"^(?:\.?#|copy of )|(?:~|#|\.(?:bak|backup|copy|dist|old|orig|prev|rej|sav|save|sw[a-z]|tmp|un~|\d+)"
    r"|[ _.-]*(?:copy|backup|\(\d+\)|- copy))$"
)


def is_refused(uri: str, language: str, text: str, private_globs: Sequence[str] = ()) -> bool:
    """Tells whether a document may not be read."""
    return bool(refusal(uri, private_globs) or refusal_by_text(uri, language, text))


def refusal(uri: str, private_globs: Sequence[str] = ()) -> str | None:
    """Tells by which rule a document may not be read, whatever it holds; None where it may.

    A path that can't be resolved is judged by its name alone; an `untitled:` one by that and its text.
    """
    path = path_of(uri)
    for each in dict.fromkeys((path, _resolve(path))):
        if rule := _secret_rule(each) or why_ignored(each, lists_above(each, IGNORE_FILE)):
            return rule
        if glob := match_in(private_globs, each):
            return f"{glob} in private_globs"
    return next((rule for name in _names_in_query(uri) if (rule := _secret_rule(name))), None)


def refusal_by_text(uri: str, language: str, text: str) -> str | None:
    """Tells why a document that has no file looks like a copy of one that may not be read."""
    if language in _SECRET_LANGUAGES:
        return f"the language {language}"
    if not has_no_file(uri) or len(text) > _MAX_TEXT_CHARS:
        return None
    looks_secret = _SECRET_TEXT.match(text) and (text.lstrip().startswith("-----BEGIN ") or len(_ASSIGNS.findall(text)) > 1)
    return "it reads like a file of keys" if looks_secret else None


def has_no_file(uri: str) -> bool:
    return uri.startswith("untitled:") or ":" not in uri


def may_be_context(uri: str, private_globs: Sequence[str] = ()) -> bool:
    """Tells whether a document may be read for suggestions in another: neither refused nor ignored by git."""
    if refusal(uri, private_globs):
        return False
    return not any(_why_git_ignores(each) for each in {path_of(uri), _resolve(path_of(uri))})


def path_of(uri: str) -> str:
    """Gives the decoded path; backslashes count as slashes, for a Windows client's sake."""
    try:
        path = urlsplit(uri).path
    except ValueError:  # an unclosed bracket in the host
        path = uri
    return posixpath.normpath(_decoded(path).replace("\\", "/").replace("\0", ""))


def matches_any(globs: Sequence[str], path: str) -> str | None:
    """Gives the glob that matches a path or the file that it leads to."""
    return match_in(globs, path) or match_in(globs, _resolve(path))


def _decoded(text: str) -> str:
    while (decoded := unquote(text)) != text:
        text = decoded
    return text


def _names_in_query(uri: str) -> list[str]:
    """Gives what may be paths in a URI's query and fragment, where some editors' own schemes have them."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return []
    return [each for each in re.split(r"[\s\"'&=,;{}#?|<>]+", _decoded(f"{parts.query} {parts.fragment}")) if each]


def _resolve(path: str) -> str:
    try:
        return Path(path).resolve().as_posix() if Path(path).is_absolute() else path
    except (OSError, RuntimeError, ValueError):
        return path


def _secret_rule(path: str) -> str | None:
    *folders, name = (_plain(part) for part in path.replace("\\", "/").split("/"))
    for each in _copies_of(name):
        if pattern := next((pattern for pattern in _SECRET_NAMES if fnmatchcase(each, pattern)), None):
            return f"{pattern} among the names of secret files"
    if folder := next((each for each in folders if each in _SECRET_FOLDERS), None):
        return f"{folder} among the folders of secret files"
    whole = "/".join((*folders, name))
    end = next((end for end in _SECRET_ENDS if whole == end or whole.endswith("/" + end)), None)
    return f"{end} among the names of secret files" if end else None


def _plain(part: str) -> str:
    """Gives a name as a file system that is tolerant reads it: NTFS drops dots and blanks at its end, and hides streams."""
    part = "".join(char for char in unicodedata.normalize("NFKC", part) if unicodedata.category(char) not in ("Cf", "Cc"))
    return part.partition(":")[0].rstrip(". ").casefold()


def _copies_of(name: str) -> list[str]:
    names = [name]
    while (bare := _COPY.sub("", names[-1])) and bare != names[-1]:
        names.append(bare)
    if len(names) > 1:  # vim's copy of a file without a dot begins with one
        names += [each.removeprefix(".") for each in names]
    return names


def _why_git_ignores(path: str) -> str | None:
    root = next((folder for folder in Path(path).parents if (folder / ".git").exists()), None)
    if root is None:
        return None
    exclude = read_list(root / ".git" / "info" / "exclude", root)
    return why_ignored(path, [*exclude, *lists_above(path, ".gitignore", root=root)])
