"""The resident GPTBigCode engine: tokens and tensors, no editors.

Shape legend, used in trailing comments everywhere below: `B` batch, `T` new tokens, `S` all tokens so far,
`E` embedding, `H` heads, `K` key/value heads (1 for multi-query attention, H otherwise), `D` head size,
`V` vocabulary, `L` layers, `C` cache capacity.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.config import GPTBigCodeConfig
    from engine.heads import (
        GPTBigCodeForCausalLM,
        GPTBigCodeForSequenceClassification,
        GPTBigCodeForTokenClassification,
    )
    from engine.model import GPTBigCodeModel

__all__ = [
    "GPTBigCodeConfig",
    "GPTBigCodeForCausalLM",
    "GPTBigCodeForSequenceClassification",
    "GPTBigCodeForTokenClassification",
    "GPTBigCodeModel",
]

_HOMES = {"GPTBigCodeConfig": "engine.config", "GPTBigCodeModel": "engine.model"}


def __getattr__(name: str) -> Any:
    """Imports a model class when it is first asked for: `engine.api` alone must not cost the import of torch (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES.get(name, "engine.heads")), name)
