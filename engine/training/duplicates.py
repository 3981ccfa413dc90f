"""Near duplicates by the share of a file's text that was seen before, in one pass.

Every window of 32 bytes of the text without blanks, comments and case is hashed; the hashes that are 0 modulo 64
stand for the file (FracMinHash: Irber et al. 2022). A file whose sampled windows mostly occur in files taken earlier is a
copy, whole or pieced together: containment, unlike Jaccard, also finds the short copy inside the long file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

_ONE_IN = 64
_COMMENT = re.compile(r"^\s*#.*$", re.MULTILINE)
_MULTIPLIERS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F)


def sketch(text: str) -> frozenset[int]:
    """The sampled window hashes of a text; few or none where it is short."""
    bare = _COMMENT.sub("", text).encode().lower().translate(None, b" \t\n\r\f\v")
    hashes = np.frombuffer(bare, np.uint8).astype(np.uint64)
    width = 1
    for multiplier in _MULTIPLIERS:  # windows of 2, 4, 8, 16 and 32 bytes, each from two halves
        if len(hashes) <= width:
            return frozenset()
        hashes = (hashes[:-width] * np.uint64(multiplier)) ^ (hashes[width:] + (hashes[width:] >> np.uint64(29)))
        width *= 2
    mixed = hashes * np.uint64(_MULTIPLIERS[0])
    mixed ^= mixed >> np.uint64(32)
    return frozenset(mixed[mixed % np.uint64(_ONE_IN) == 0].tolist())


@dataclass(slots=True)
class Seen:
    """The hashes of everything taken so far."""

    hashes: set[int] = field(default_factory=set)

    def share(self, windows: frozenset[int]) -> float:
        """The share of these windows that was seen; 0 for a text too short to tell."""
        return len(windows & self.hashes) / len(windows) if windows else 0.0

    def add(self, windows: frozenset[int]) -> None:
        """Takes the windows for seen."""
        self.hashes |= windows
