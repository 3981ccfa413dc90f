"""A model that computes nothing: it takes tokens into the cache and says that the text ends. For counting tokens."""

from __future__ import annotations

from dataclasses import replace

import torch

from engine.config import GPTBigCodeConfig
from engine.heads import HeadOutput
from engine.kv_cache import CacheShape, KVCache


class CountingModel:
    """Stands in for `GPTBigCodeForCausalLM` in a `Decoder`; its cached token takes one byte."""

    device = torch.device("cpu")

    def __init__(self, config: GPTBigCodeConfig, end_of_text: int) -> None:
        self.config = replace(config, n_layer=1)
        self.transformer = self
        self._logits = torch.zeros(config.vocab_size)
        self._logits[end_of_text] = 1.0

    def new_cache(self) -> KVCache:
        shape = CacheShape(1, 1, 0, self.config.n_positions, torch.int8, self.device)
        return KVCache(replace(shape, head_dim=1))

    def __call__(self, rows: torch.Tensor, *, kv_cache: KVCache, logits_to_keep: int, before_layer) -> HeadOutput:
        before_layer()
        kv_cache.reserve(rows.shape[1])
        kv_cache.commit(rows.shape[1])
        return HeadOutput(self._logits.expand(1, logits_to_keep, -1))
