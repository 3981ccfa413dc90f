"""What a GPTBigCode predicts: the next token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.attention import Attention
from engine.config import GPTBigCodeConfig
from engine.kv_cache import KVCache
from engine.model import GPTBigCodeModel, init_weights


@dataclass(slots=True)
class CausalLMOutput:
    """Next-token scores. Shapes: logits (B, T, V), or the last `logits_to_keep` rows of it; loss is a scalar."""

    logits: Tensor
    loss: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    kv_cache: KVCache | None = None


class GPTBigCodeForCausalLM(nn.Module):
    """GPTBigCode with its language-model head, tied to the token embedding unless the config says otherwise."""

    def __init__(self, config: GPTBigCodeConfig, attention: Attention | None = None) -> None:
        super().__init__()
        self.config = config
        self.transformer = GPTBigCodeModel(config, attention)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        init_weights(self.lm_head, config)
        self.tie_weights()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.lm_head.weight.device

    def tie_weights(self) -> None:
        """Makes head and embedding one parameter, as the config asks."""
        if self.config.tie_word_embeddings:
            self.lm_head.weight = self.transformer.wte.weight

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        kv_cache: KVCache | None = None,
        labels: Tensor | None = None,
        *,
        logits_to_keep: int | None = None,
        **options: Any,
    ) -> CausalLMOutput:
        """Scores the next token after each new one; `options` go to `GPTBigCodeModel.forward`.

        Shapes: input_ids and labels (B, T), labels -100 where no loss is wanted; logits (B, T, V), its last
        `logits_to_keep` rows only where that is given.
        """
        output = self.transformer(input_ids, attention_mask, kv_cache=kv_cache, **options)
        h = output.last_hidden_state
        if logits_to_keep is not None:
            h = h[:, -logits_to_keep:]
        logits = self.lm_head(h)
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=-100)
        return CausalLMOutput(logits, loss, output.hidden_states, kv_cache)
