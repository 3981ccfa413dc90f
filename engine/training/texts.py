"""The documents of a corpus on disk: one file of UTF-8 text, end to end, and one of the bytes at which documents end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class Texts:
    """The documents of one half of the corpus, read from disk as they are asked for."""

    def __init__(self, path: Path) -> None:
        self._bytes: NDArray[np.uint8] = np.memmap(path.with_suffix(".txt"), np.uint8, "r")
        self.ends: NDArray[np.int64] = np.load(path.with_suffix(".npy"))

    @property
    def n_bytes(self) -> int:
        """Of all the documents together."""
        return int(self.ends[-1])

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, document_idx: int) -> str:
        if not 0 <= document_idx < len(self):
            raise IndexError(document_idx)
        start = int(self.ends[document_idx - 1]) if document_idx else 0
        return self._bytes[start : int(self.ends[document_idx])].tobytes().decode()

    def at(self, offset: int) -> int:
        """The index of the document that holds this byte."""
        return int(np.searchsorted(self.ends, offset, side="right"))
