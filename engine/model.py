"""GPTBigCode's forward pass, top to bottom: embeddings, blocks, final norm. Heads are in `heads`.

Source: BigCode's Megatron-LM and the published checkpoints; parameter names are the checkpoint's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from engine.api import ContextTooLong
from engine.attention import Attention, EagerAttention
from engine.config import GPTBigCodeConfig
from engine.kv_cache import CacheShape, KVCache
from engine.pretrained import PretrainedModel, init_weights

LayerHook = Callable[[], None]


@dataclass(slots=True)
class ModelOutput:
    """What a base model gives back: hidden states after the final norm, and on demand those before each layer.

    Shapes: last_hidden_state (B, T, E); hidden_states L + 1 of (B, T, E), the last one normed.
    """

    last_hidden_state: Tensor
    hidden_states: tuple[Tensor, ...] | None = None
    kv_cache: KVCache | None = None


class GPTBigCodeAttention(nn.Module):
    """Multi-query (or multi-head) self-attention with one fused projection."""

    def __init__(self, config: GPTBigCodeConfig) -> None:
        super().__init__()
        self.n_head, self.n_kv_head, self.head_dim = config.n_head, config.n_kv_head, config.head_dim
        self.c_attn = nn.Linear(config.n_embd, config.n_embd + 2 * config.n_kv_head * config.head_dim)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd)
        self.resid_pdrop, self.attn_pdrop = config.resid_pdrop, config.attn_pdrop

    def project(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Queries, and fused keys and values. Shapes: h (B, T, E); q (B, T, H, D); kv (B, K, T, 2 * D)."""
        fused = self.c_attn(h)  # (B, T, E + 2 * K * D)
        if self.n_kv_head == 1:
            q, kv = fused.split((self.n_head * self.head_dim, 2 * self.head_dim), dim=-1)
            return q.unflatten(-1, (self.n_head, self.head_dim)), kv.unsqueeze(1)
        # (n_head, 3, D): k and v of a head are one contiguous slice
        q, kv = fused.unflatten(-1, (self.n_head, 3 * self.head_dim)).split((self.head_dim, 2 * self.head_dim), dim=-1)
        return q, kv.transpose(1, 2)


class GPTBigCodeMLP(nn.Module):
    """The feed-forward half of a block."""

    def __init__(self, config: GPTBigCodeConfig) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, config.inner_dim)
        self.c_proj = nn.Linear(config.inner_dim, config.n_embd)
        self.activation = config.activation_function
        self.resid_pdrop = config.resid_pdrop

    def forward(self, h: Tensor) -> Tensor:
        """Shapes: h and result (B, T, E)."""
        added: Tensor = self.c_proj(activate(self.c_fc(h), self.activation))
        return F.dropout(added, self.resid_pdrop, self.training)


def activate(h: Tensor, name: str) -> Tensor:
    """The named activation, as one fused kernel, but for gelu_new, whose many roundings are its definition."""
    match name:
        case "relu":
            return F.relu(h)
        case "gelu":
            return F.gelu(h)
        case "gelu_new":
            return 0.5 * h * (1.0 + torch.tanh((2.0 / math.pi) ** 0.5 * (h + 0.044715 * torch.pow(h, 3.0))))
        case _:
            return F.gelu(h, approximate="tanh")


class GPTBigCodeBlock(nn.Module):
    """One layer: attention and feed-forward, each behind its norm and added to the residual stream."""

    def __init__(self, config: GPTBigCodeConfig, layer_idx: int) -> None:
        super().__init__()
        self.layer_idx = layer_idx
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.attn = GPTBigCodeAttention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.mlp = GPTBigCodeMLP(config)

    def forward(self, h: Tensor, attend: Attention, mask: Tensor | None, kv_cache: KVCache | None) -> Tensor:
        """Shapes: h and result (B, T, E); mask from `Attention.prepare`."""
        q, kv = self.attn.project(self.ln_1(h))
        if kv_cache is not None:
            kv = kv_cache.store(self.layer_idx, kv)  # (B, K, S, 2 * D)
        dropout_p = self.attn.attn_pdrop if self.training else 0.0
        mixed = self.attn.c_proj(attend(q, kv, mask, layer_idx=self.layer_idx, dropout_p=dropout_p))
        h = h + F.dropout(mixed, self.attn.resid_pdrop, self.training)
        added: Tensor = self.mlp(self.ln_2(h))
        return h + added


class GPTBigCodeModel(PretrainedModel):
    """The transformer without a head."""

    def __init__(self, config: GPTBigCodeConfig, attention: Attention | None = None) -> None:
        super().__init__(config)
        self.attention: Attention = attention or EagerAttention(config)
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.n_positions, config.n_embd)
        self.h = nn.ModuleList(GPTBigCodeBlock(config, layer_idx) for layer_idx in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.gradient_checkpointing = False
        init_weights(self, config)

    @property
    def base(self) -> GPTBigCodeModel:
        """Itself; a model with a head gives its transformer."""
        return self

    def new_cache(self, n_batch: int = 1) -> KVCache:
        """An empty cache that fits this model."""
        return KVCache(CacheShape.of(self.config, self.wte.weight.dtype, self.wte.weight.device), n_batch)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        kv_cache: KVCache | None = None,
        output_hidden_states: bool = False,
        *,
        before_layer: LayerHook | None = None,
    ) -> ModelOutput:
        """Runs the new tokens through all layers over what the cache holds.

        Without a cache, one is made and returned as the config's `use_cache` says, but never in training. Positions
        count from the first token that `attention_mask` keeps; given ones may start over, in rows of any length.
        `before_layer` is called ahead of each layer; what it raises abandons the pass and leaves the cache as it was.
        Shapes: input_ids, token_type_ids and position_ids (B, T); inputs_embeds (B, T, E), instead of input_ids;
        attention_mask (B, S), 0 on padding.
        Raises: ContextTooLong past the model's positions; ValueError where the arguments do not fit together.
        """
        h = self._embed(input_ids, inputs_embeds)  # (B, T, E)
        n_batch, n_new = h.shape[:2]
        kv_cache = self._make_room(kv_cache, n_batch, n_new)
        n_cached = 0 if kv_cache is None else kv_cache.length
        keep = _keep(attention_mask, n_batch, n_cached + n_new)
        if position_ids is None:
            position_ids = self._positions(n_new, n_cached, keep, h.device)
        h = h + self.wpe(position_ids)
        if token_type_ids is not None:
            h = h + self.wte(token_type_ids)
        h = F.dropout(h, self.config.embd_pdrop, self.training)
        mask = self.attention.prepare(n_new, n_cached, keep, h)
        hidden_states: list[Tensor] | None = [] if output_hidden_states else None
        h = self.ln_f(self._through_layers(h, mask, kv_cache, before_layer, hidden_states))
        if kv_cache is not None:
            kv_cache.commit(n_new)
        return ModelOutput(h, None if hidden_states is None else (*hidden_states, h), kv_cache)

    def _embed(self, input_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("exactly one of input_ids and inputs_embeds must be given")
        embedded: Tensor = self.wte(input_ids) if inputs_embeds is None else inputs_embeds
        return embedded

    def _make_room(self, kv_cache: KVCache | None, n_batch: int, n_new: int) -> KVCache | None:
        """The cache, a new one where one is wanted, with places for the new tokens."""
        if kv_cache is None:
            if self.training or not self.config.use_cache or n_new > self.config.n_positions:
                return None
            kv_cache = self.new_cache(n_batch)
        if kv_cache.n_batch != n_batch:
            raise ValueError(f"the cache holds {kv_cache.n_batch} sequences, the batch has {n_batch}")
        kv_cache.reserve(n_new)
        return kv_cache

    def _positions(self, n_new: int, n_cached: int, keep: Tensor | None, device: torch.device) -> Tensor:
        """Counted from the first real token, 1 on padding. Shapes: keep (B, S) or None; result (B or 1, T)."""
        n_tokens, n_positions = n_cached + n_new, self.config.n_positions
        if n_tokens > n_positions:
            raise ContextTooLong(f"{n_tokens} tokens do not fit the model's {n_positions} positions; shorten the text")
        if keep is None:
            return torch.arange(n_cached, n_tokens, device=device)[None]
        positions = keep.long().cumsum(-1) - 1
        return positions.masked_fill(~keep, 1)[:, n_cached:]

    def _through_layers(
        self,
        h: Tensor,
        mask: Tensor | None,
        kv_cache: KVCache | None,
        before_layer: LayerHook | None,
        hidden_states: list[Tensor] | None,
    ) -> Tensor:
        """What the last layer gives; what goes into each is added to `hidden_states`, where that is wanted."""
        for block in self.h:
            if before_layer is not None:
                before_layer()
            if hidden_states is not None:
                hidden_states.append(h)
            h = self._run(block, h, mask, kv_cache)
        return h

    def _run(self, block: nn.Module, h: Tensor, mask: Tensor | None, kv_cache: KVCache | None) -> Tensor:
        """One layer. With a cache nothing is recomputed: a second run would store its rows a second time."""
        if self.gradient_checkpointing and self.training and kv_cache is None:
            result: Tensor = checkpoint(block, h, self.attention, mask, None, use_reentrant=False)
        else:
            result = block(h, self.attention, mask, kv_cache)
        return result


def _keep(attention_mask: Tensor | None, n_batch: int, n_tokens: int) -> Tensor | None:
    if attention_mask is None:
        return None
    if attention_mask.shape != (n_batch, n_tokens):
        got, wanted = list(attention_mask.shape), [n_batch, n_tokens]
        raise ValueError(f"attention_mask has shape {got}, {wanted} was expected: all tokens, cached and new")
    return attention_mask.bool()
