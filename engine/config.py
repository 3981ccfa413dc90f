"""GPTBigCodeConfig: the shape of a checkpoint, under the checkpoint's own field names.

Source: the published config.json files and the documentation of transformers' GPTBigCode; for the original SantaCoder,
whose config.json calls itself gpt2, the fields of its own model code.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from engine.api import CheckpointError
from engine.model_files import model_folder

ACTIVATIONS = ("gelu_pytorch_tanh", "gelu", "gelu_new", "gelu_fast", "relu")  # gelu_fast: SantaCoder's name
SANTACODER = "GPT2LMHeadCustomModel"  # the architecture that its config.json names
SANTACODER_HEADS = {"multiquery": True, "multihead": False}  # its attention_head_type -> multi_query

ALIASES = {
    "hidden_size": "n_embd",
    "max_position_embeddings": "n_positions",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
}


@dataclass(frozen=True, kw_only=True)
class GPTBigCodeConfig:
    """Everything that fixes the model's arithmetic; fields that other runtimes keep in config.json are left out.

    Raises: CheckpointError where a value cannot be (heads that do not divide the width, an unknown activation) or asks
    for what no published checkpoint has (cross-attention).
    """

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None  # None: 4 * n_embd
    activation_function: str = "gelu_pytorch_tanh"
    resid_pdrop: float = 0.1
    embd_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    classifier_dropout: float | None = None
    hidden_dropout: float | None = None
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    scale_attn_weights: bool = True
    use_cache: bool = True
    attention_softmax_in_fp32: bool = True
    scale_attention_softmax_in_fp32: bool = True
    multi_query: bool = True
    tie_word_embeddings: bool = True
    add_cross_attention: bool = False
    bos_token_id: int | None = 50256
    eos_token_id: int | list[int] | None = 50256
    pad_token_id: int | None = None
    num_labels: int = 2
    problem_type: str | None = None

    def __post_init__(self) -> None:
        for name in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "n_inner", "num_labels"):
            value = getattr(self, name)
            if name == "n_inner" and value is None:
                continue
            if not isinstance(value, int):
                raise CheckpointError(f"config: {name} is {value!r}, an integer was expected")
            if value < 1:
                raise CheckpointError(f"config: {name} is {value}, must be at least 1")
        if self.n_embd % self.n_head:
            raise CheckpointError(f"config: n_embd {self.n_embd} is not a multiple of n_head {self.n_head}")
        if self.activation_function not in ACTIVATIONS:
            allowed = ", ".join(ACTIVATIONS)
            raise CheckpointError(f"config: activation_function {self.activation_function!r} is none of {allowed}")
        if self.add_cross_attention:
            raise CheckpointError("config: add_cross_attention is true, only decoders without cross-attention are understood")

    def __getattr__(self, name: str) -> Any:
        """The other names under which transformers knows a field."""
        if name not in ALIASES:
            raise AttributeError(f"GPTBigCodeConfig has no field {name!r}")
        return getattr(self, ALIASES[name])

    @property
    def head_dim(self) -> int:
        """Size D of one head."""
        return self.n_embd // self.n_head

    @property
    def n_kv_head(self) -> int:
        """Number K of key/value heads: 1 for multi-query attention."""
        return 1 if self.multi_query else self.n_head

    @property
    def inner_dim(self) -> int:
        """Width of the feed-forward layer."""
        return self.n_inner if self.n_inner is not None else 4 * self.n_embd

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> GPTBigCodeConfig:
        """Reads a config.json's values; aliases are understood, fields of other runtimes are passed over."""
        known = {field.name for field in fields(cls)}
        named = {ALIASES.get(name, name): value for name, value in values.items()}
        if "id2label" in values and "num_labels" not in values:
            named["num_labels"] = len(values["id2label"])
        return cls(**{name: value for name, value in named.items() if name in known})

    @classmethod
    def from_pretrained(cls, name: str | Path) -> GPTBigCodeConfig:
        """Reads the config.json of a folder or a downloaded hub model.

        Raises: CheckpointError where the file is missing, is no JSON object, or is another architecture's.
        """
        path = model_folder(str(name)) / "config.json"
        values = _read_json(path)
        if "attention_head_type" in values or SANTACODER in values.get("architectures", ()):
            return _of_santacoder(path, values)
        if values.get("model_type") not in (None, "gpt_bigcode"):
            raise CheckpointError(f"{path}: model_type is {values['model_type']!r}, only 'gpt_bigcode' is understood")
        return cls.from_dict(values)

    def to_dict(self) -> dict[str, Any]:
        """The values as config.json holds them, readable by transformers."""
        return {"model_type": "gpt_bigcode", **asdict(self)}


def is_santacoder(folder: Path) -> bool:
    """Whether the folder holds the original SantaCoder, whose weights are laid out as GPT-2's."""
    return _read_json(folder / "config.json").get("model_type") == "gpt2"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); a model folder holds a config.json") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: holds a {type(values).__name__}, a JSON object was expected")
    return values


def _of_santacoder(path: Path, values: dict[str, Any]) -> GPTBigCodeConfig:
    """The same shape in GPTBigCode's words; what GPT-2's code could do besides, SantaCoder never did."""
    kind = values.get("attention_head_type", "multiquery")
    if kind not in SANTACODER_HEADS:
        raise CheckpointError(f"{path}: attention_head_type {kind!r} is none of {', '.join(SANTACODER_HEADS)}")
    if values.get("scale_attn_by_inverse_layer_idx"):
        raise CheckpointError(f"{path}: scale_attn_by_inverse_layer_idx is true, which GPTBigCode does not have")
    return GPTBigCodeConfig.from_dict({**values, "multi_query": SANTACODER_HEADS[kind]})
