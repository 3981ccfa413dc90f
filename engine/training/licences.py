"""Whether a package's or a file's licence lets the shipped model learn from it.

An allow-list of permissive SPDX identifiers, with the AND, OR and WITH of SPDX expressions. What is not recognised is
refused: a model's card must be able to name the terms of everything behind it. Sources: SPDX specification 2.3,
annex D (expressions); PEP 639 (License-Expression over License over classifiers).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message

PERMISSIVE = frozenset(
    {
        *("0BSD", "Apache-2.0", "BSD-1-Clause", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "CNRI-Python"),
        *("HPND", "ISC", "MIT", "MIT-0", "MIT-CMU", "NCSA", "PSF-2.0", "Python-2.0", "Unlicense", "WTFPL", "X11"),
        *("ZPL-2.1", "Zlib"),
    }
)

# The free text that people wrote before PEP 639, reduced by `_squeeze`.
_ALIASES = {
    "2clausebsd": "BSD-2-Clause",
    "3clausebsd": "BSD-3-Clause",
    "apache": "Apache-2.0",
    "apache2": "Apache-2.0",
    "apache20": "Apache-2.0",
    "apacheversion20": "Apache-2.0",
    "apachesoftware": "Apache-2.0",
    "apachesoftware20": "Apache-2.0",
    "bsd": "BSD-3-Clause",
    "bsd2clause": "BSD-2-Clause",
    "bsd3clause": "BSD-3-Clause",
    "boostsoftware10": "BSL-1.0",
    "cc010universal": "CC0-1.0",
    "expat": "MIT",
    "freebsd": "BSD-2-Clause",
    "historicalpermissionnoticeanddisclaimer": "HPND",
    "isc": "ISC",
    "iscl": "ISC",
    "mit": "MIT",
    "mitnoattribution": "MIT-0",
    "modifiedbsd": "BSD-3-Clause",
    "newbsd": "BSD-3-Clause",
    "psf": "PSF-2.0",
    "psfl": "PSF-2.0",
    "publicdomain": "CC0-1.0",
    "pythonsoftwarefoundation": "PSF-2.0",
    "revisedbsd": "BSD-3-Clause",
    "simplifiedbsd": "BSD-2-Clause",
    "unlicense": "Unlicense",
    "zlib": "Zlib",
    "zliblibpng": "Zlib",
    "zopepublic": "ZPL-2.1",
}

# Named anywhere in free text or in a file's head, these refuse it. Compatible wording ("either the GPL or MIT") is
# lost with them: the corpus is large enough to do without.
_REFUSED = re.compile(
    r"\b[AL]?GPL|GNU (?:\w+ ){0,2}General Public|Mozilla Public|\bMPL\b|Eclipse Public|\bEUPL\b|Creative Commons Attribution|"
    r"\bCC[- ]BY|Proprietary|Non-?Commercial|Confidential|Business Source|Elastic License|SSPL|Server Side Public|CeCILL|"
    r"Terms of Service",
    re.IGNORECASE,
)
_SPDX_TAG = re.compile(r"SPDX-License-Identifier:\s*([^\n\"'*]+)")
_TOKEN = re.compile(r"\(|\)|[^\s()]+")
_FULL_TEXTS = (
    ("Permission is hereby granted, free of charge", "MIT"),
    ("Redistribution and use in source and binary forms", "BSD-3-Clause"),
    ("Apache License Version 2.0, January 2004", "Apache-2.0"),
)
_SHORT_CHARS = 80  # longer than a name: the text of a licence
_HEAD_CHARS = 4000


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether text under these terms may be learned from, and the terms as the manifest states them."""

    allowed: bool
    terms: str


def package_verdict(metadata: Message) -> Verdict:
    """Judges a package by its core metadata: the SPDX expression, or else free text and classifiers together.

    Several classifiers are read as AND, for nothing says which of the two was meant.
    """
    expression = metadata.get("License-Expression")
    if expression:
        return Verdict(is_permissive(expression), expression.strip())
    text = (metadata.get("License") or "").strip()
    text = "" if text.upper() == "UNKNOWN" else text
    classified = [_classified(line) for line in metadata.get_all("Classifier", []) if line.startswith("License ::")]
    classified = [name for name in classified if name]
    stated = _from_text(text)
    terms = " AND ".join(dict.fromkeys(([stated] if stated else []) + classified))
    # A long text may name the terms of libraries bundled in binary form: there the classifiers decide.
    if not terms or (not stated and len(text) <= _SHORT_CHARS and _REFUSED.search(text)):
        return Verdict(False, terms or text[:60] or "none stated")
    return Verdict(is_permissive(terms), terms)


def file_verdict(source: str) -> Verdict:
    """Judges a file by its head: an SPDX tag decides; otherwise it is refused only where it names refused terms."""
    head = source[:_HEAD_CHARS]
    tag = _SPDX_TAG.search(head)
    if tag:
        return Verdict(is_permissive(tag[1]), tag[1].strip())
    refused = _REFUSED.search(head)
    return Verdict(refused is None, refused[0] if refused else "")


def is_permissive(expression: str) -> bool:
    """Evaluates an SPDX expression over the allow-list; anything malformed is not permissive."""
    tokens = _TOKEN.findall(expression)
    try:
        allowed, rest = _any_of(tokens)
    except IndexError:
        return False
    return allowed and not rest


def _any_of(tokens: list[str]) -> tuple[bool, list[str]]:
    allowed, tokens = _all_of(tokens)
    while tokens and tokens[0].upper() == "OR":
        other, tokens = _all_of(tokens[1:])
        allowed = allowed or other
    return allowed, tokens


def _all_of(tokens: list[str]) -> tuple[bool, list[str]]:
    allowed, tokens = _one(tokens)
    while tokens and tokens[0].upper() == "AND":
        other, tokens = _one(tokens[1:])
        allowed = allowed and other
    return allowed, tokens


def _one(tokens: list[str]) -> tuple[bool, list[str]]:
    if tokens[0] == "(":
        allowed, tokens = _any_of(tokens[1:])
        if tokens[0] != ")":
            raise IndexError("unbalanced")
        return allowed, tokens[1:]
    allowed, tokens = tokens[0] in PERMISSIVE, tokens[1:]
    if tokens and tokens[0].upper() == "WITH":  # an exception only ever adds permission
        if len(tokens) < 2:
            raise IndexError("WITH names no exception")
        tokens = tokens[2:]
    return allowed, tokens


def _from_text(text: str) -> str | None:
    """The SPDX expression that a free-text licence field amounts to, None where it is not understood."""
    for phrase, name in _FULL_TEXTS if len(text) > _SHORT_CHARS else ():
        if phrase in " ".join(text[:1500].split()) and not _REFUSED.search(text):
            return name
    if not text or len(text) > _SHORT_CHARS:
        return None
    if is_permissive(text):
        return text
    if _squeeze(text) in _ALIASES:
        return _ALIASES[_squeeze(text)]
    parts = [part for part in re.split(r"\s+(OR|AND|or|and)\s+|(,|/|;)\s*", text) if part]
    translated = list(_translate(parts))
    return " ".join(translated) if all(translated) else None


def _translate(parts: list[str]) -> Iterator[str]:
    for part in parts:
        if part.upper() in ("OR", "AND"):
            yield part.upper()
        elif part in ",/;":
            yield "AND"
        else:
            yield part if part in PERMISSIVE else _ALIASES.get(_squeeze(part), "")


def _classified(line: str) -> str:
    """The SPDX identifier behind a trove classifier, itself where it is unknown, "" where it says nothing."""
    name = line.split("::")[-1].strip()
    if name in ("OSI Approved", "DFSG approved"):
        return ""
    bare = re.sub(r"\s*\([^)]*\)", "", name)
    return _ALIASES.get(_squeeze(bare), name.replace(" ", "-"))


def _squeeze(text: str) -> str:
    text = re.sub(
        r"\blicen[cs]ed?\b|\bthe\b|\bunder\b|\bversion\b|\bv(?=\d)|\bReleased\b|\(.*?\)", "", text, flags=re.IGNORECASE
    )
    return re.sub(r"[^a-z0-9]", "", text.lower())
