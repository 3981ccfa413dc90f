"""What a GPTBigCode predicts: the next token, a label for the whole text, a label for each token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.attention import Attention
from engine.config import GPTBigCodeConfig
from engine.generation import Continuation, generate
from engine.kv_cache import KVCache
from engine.model import GPTBigCodeModel
from engine.pretrained import PretrainedModel, init_weights
from engine.sampler import Sampling

IGNORED_LABEL = -100


@dataclass(slots=True)
class HeadOutput:
    """What a head gives back; the fields behind `logits` where they were asked for.

    Shapes: logits (B, T, V), the last `logits_to_keep` rows of it, (B, labels) or (B, T, labels); loss is a scalar.
    """

    logits: Tensor
    loss: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    kv_cache: KVCache | None = None


class _WithHead(PretrainedModel):
    """A transformer under a head."""

    def __init__(self, config: GPTBigCodeConfig, attention: Attention | None = None) -> None:
        super().__init__(config)
        self.transformer = GPTBigCodeModel(config, attention)

    @property
    def base(self) -> GPTBigCodeModel:
        """The transformer."""
        return self.transformer


class GPTBigCodeForCausalLM(_WithHead):
    """GPTBigCode with its language-model head, tied to the token embedding unless the config says otherwise."""

    def __init__(self, config: GPTBigCodeConfig, attention: Attention | None = None) -> None:
        super().__init__(config, attention)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        init_weights(self.lm_head, config)
        self.tie_weights()

    def tie_weights(self) -> None:
        """Makes head and embedding one parameter, as the config asks."""
        if self.config.tie_word_embeddings:
            self.lm_head.weight = self.transformer.wte.weight

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        kv_cache: KVCache | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool = False,
        *,
        logits_to_keep: int | None = None,
        **options: Any,
    ) -> HeadOutput:
        """Scores the next token after each new one; the arguments and `options` go to `GPTBigCodeModel.forward`.

        Shapes: labels (B, T), -100 where no loss is wanted; logits (B, T, V), its last `logits_to_keep` rows only where
        that is given, which labels forbid.
        """
        inputs = (input_ids, attention_mask, position_ids, token_type_ids, inputs_embeds, kv_cache, output_hidden_states)
        output = self.transformer(*inputs, **options)
        h = output.last_hidden_state
        if logits_to_keep is not None:
            h = h[:, -logits_to_keep:]
        logits = self.lm_head(h)
        loss = None if labels is None else _cross_entropy(logits[:, :-1], labels[:, 1:])
        return HeadOutput(logits, loss, output.hidden_states, output.kv_cache)

    def generate(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        max_new_tokens: int = 20,
        do_sample: bool = False,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        repetition_penalty: float = 1.0,
        eos_token_id: int | Sequence[int] | None = None,
        pad_token_id: int | None = None,
        token_type_ids: Tensor | None = None,
        seed: int | None = None,
        stop: Sequence[Sequence[int]] = (),
    ) -> Tensor:
        """Continues each row by the likeliest tokens, or by sampled ones, until all have ended.

        A row ends with an `eos_token_id` (None: the config's; empty: none) or one of the id sequences in `stop`; behind
        its end stand `pad_token_id`s (None: the config's, else the end's). `seed` None draws from torch's own generator.
        Shapes: input_ids, attention_mask and token_type_ids (B, T); result (B, T + new), prompt included.
        Raises: ContextTooLong past the model's positions; ValueError where a limit or probability cannot be.
        """
        sampling = Sampling(do_sample, temperature, top_k, top_p, repetition_penalty, seed)
        ends = self.config.eos_token_id if eos_token_id is None else eos_token_id
        end_ids = () if ends is None else (ends,) if isinstance(ends, int) else tuple(ends)
        pads = (pad_token_id, self.config.pad_token_id, *end_ids, 0)
        pad = next(token_id for token_id in pads if token_id is not None)
        stops = (*((token_id,) for token_id in end_ids), *map(tuple, stop))
        continuation = Continuation(max_new_tokens, stops, pad, sampling)
        return generate(self, input_ids, attention_mask, token_type_ids, continuation)


class GPTBigCodeForSequenceClassification(_WithHead):
    """GPTBigCode with one label for the whole text, read off its last token that is no padding."""

    head = "score"

    def __init__(self, config: GPTBigCodeConfig, attention: Attention | None = None) -> None:
        super().__init__(config, attention)
        self.score = nn.Linear(config.n_embd, config.num_labels, bias=False)
        init_weights(self.score, config)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        kv_cache: KVCache | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool = False,
    ) -> HeadOutput:
        """Scores each label; the arguments go to `GPTBigCodeModel.forward`.

        Without input_ids, padding cannot be told, and the last position is taken.
        Shapes: labels (B,) or (B, labels); logits (B, labels).
        Raises: ValueError for a batch where the config names no padding token.
        """
        inputs = (input_ids, attention_mask, position_ids, token_type_ids, inputs_embeds, kv_cache, output_hidden_states)
        output = self.transformer(*inputs)
        pooled = self._pool(self.score(output.last_hidden_state), input_ids)
        loss = None if labels is None else self._loss(pooled, labels)
        return HeadOutput(pooled, loss, output.hidden_states, output.kv_cache)

    def _pool(self, logits: Tensor, input_ids: Tensor | None) -> Tensor:
        """The rightmost token that is no padding, or the first. Shapes: logits (B, T, labels); result (B, labels)."""
        pad = self.config.pad_token_id
        if pad is None and len(logits) > 1:
            raise ValueError(f"a batch of {len(logits)} needs a padding token, and the config's pad_token_id is None")
        if pad is None or input_ids is None:
            return logits[:, -1]
        indexes = torch.arange(input_ids.shape[1], device=input_ids.device)
        last = (indexes * (input_ids != pad)).argmax(-1)
        return logits[torch.arange(len(logits), device=logits.device), last]

    def _loss(self, pooled: Tensor, labels: Tensor) -> Tensor:
        n_labels, pooled = self.config.num_labels, pooled.float()
        match self.config.problem_type or _problem_type(n_labels, labels):
            case "regression":
                return F.mse_loss(pooled.view_as(labels) if n_labels == 1 else pooled, labels.float())
            case "single_label_classification":
                return _cross_entropy(pooled, labels)
            case "multi_label_classification":
                return F.binary_cross_entropy_with_logits(pooled, labels.float())
            case unknown:
                raise ValueError(f"problem_type {unknown!r} is no regression, single_label_ or multi_label_classification")


class GPTBigCodeForTokenClassification(_WithHead):
    """GPTBigCode with one label for each token."""

    head = "classifier"

    def __init__(self, config: GPTBigCodeConfig, attention: Attention | None = None) -> None:
        super().__init__(config, attention)
        chances = (config.classifier_dropout, config.hidden_dropout, 0.1)
        self.dropout_p = next(chance for chance in chances if chance is not None)
        self.classifier = nn.Linear(config.n_embd, config.num_labels)
        init_weights(self.classifier, config)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        kv_cache: KVCache | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool = False,
    ) -> HeadOutput:
        """Scores each label of each token; the arguments go to `GPTBigCodeModel.forward`.

        Shapes: labels (B, T), -100 where no loss is wanted; logits (B, T, labels).
        """
        inputs = (input_ids, attention_mask, position_ids, token_type_ids, inputs_embeds, kv_cache, output_hidden_states)
        output = self.transformer(*inputs)
        logits = self.classifier(F.dropout(output.last_hidden_state, self.dropout_p, self.training))
        loss = None if labels is None else _cross_entropy(logits, labels)
        return HeadOutput(logits, loss, output.hidden_states, output.kv_cache)


def _problem_type(n_labels: int, labels: Tensor) -> str:
    if n_labels == 1:
        return "regression"
    return "single_label_classification" if labels.dtype in (torch.int64, torch.int32) else "multi_label_classification"


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over the labels that are not -100, in float32. Shapes: logits (…, labels), labels (…)."""
    return F.cross_entropy(logits.flatten(0, -2).float(), labels.flatten().long(), ignore_index=IGNORED_LABEL)
