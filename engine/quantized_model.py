"""GPTBigCode with int8 weights on the CPU, layer by layer through the C kernels; to the decoder it is a causal LM.

Inputs are quantised by row, products summed as integers, attention merged in blocks that start at the same keys for
every row: what a row becomes never depends on the rows beside it, nor on the number of threads.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Mapping
from ctypes import byref
from functools import partial
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from engine.api import EngineError
from engine.config import GPTBigCodeConfig
from engine.heads import HeadOutput
from engine.kv_cache import CacheShape, KVCache
from engine.model import LayerHook
from engine.model_files import n_used_ids
from engine.native.library import Block, Embeddings, Exact, FileRows, Linear, Norm, Shape, Stored, load_library, variants
from engine.quantize import EMBEDDINGS, load_quantized
from engine.weights import Progress

# Layers of few rows run together while they read no more than this, a millisecond's worth: reading them empties the caches of
# Python's own code, and a return to it costs 17 us. Of many rows each layer takes longer than that.
TOGETHER_BYTES = 40_000_000
FEW_ROWS = 16
MIN_TELLING_BYTES = 1 << 18  # a smaller read tells more about the threads' start
# enum activation of kernels.h; the roundings that set gelu_new apart are finer than int8
ACTIVATIONS = {"gelu_pytorch_tanh": 2, "gelu_new": 2, "gelu_fast": 2, "gelu": 3, "relu": 4}

Layers = Callable[[int, int], int]  # the first to run and how many; not 0 where memory is short


class Kernels:
    """One model's weights in the C library's hands, and the threads that run it."""

    def __init__(
        self,
        library: ctypes.CDLL,
        config: GPTBigCodeConfig,
        held: Mapping[str, Tensor | FileRows],
        *,
        n_threads: int,
        variant: str | None = None,
    ) -> None:
        """`variant` None takes the machine's best instruction set. Raises: EngineError where it cannot start."""
        self._library = library
        self._held = held  # the library holds addresses and a file's number only
        tensors = self._tensors = {name: each for name, each in held.items() if isinstance(each, Tensor)}
        self._rests: list[Linear] = []  # likewise
        self.variant = variant or variants(library)[0]
        self.layer_bytes = sum(each.nbytes for name, each in tensors.items() if ".h." in name) // config.n_layer  # on average
        n_embd = config.n_embd
        shape = Shape(
            n_layer=config.n_layer,
            n_embd=n_embd,
            n_head=config.n_head,
            n_kv_head=config.n_kv_head,
            head_dim=config.head_dim,
            n_inner=config.inner_dim,
            n_vocab=config.vocab_size,
            activation=ACTIVATIONS[config.activation_function],
            n_threads=n_threads,
            eps=config.layer_norm_epsilon,
            attention_scale=config.head_dim**-0.5 if config.scale_attn_weights else 1.0,
        )
        blocks = [self._block(f"transformer.h.{idx}", n_embd, config.inner_dim) for idx in range(config.n_layer)]
        head_name = "transformer.wte" if config.tie_word_embeddings else "lm_head"
        head = self._linear(head_name, n_embd, config.vocab_size)
        widest = float(self._tensors[f"{head_name}.weight_scale"].max())
        exact = Exact(Stored.of(held[f"{head_name}.weight_exact"]), widest)
        wte, wpe = (Stored.of(held[f"{name}_exact"]) for name in EMBEDDINGS)
        self._embeddings = Embeddings(wte, wpe, config.vocab_size, config.n_positions, n_embd)
        final_norm = self._norm("transformer.ln_f")
        self._model = library.midfill_open(
            byref(shape),
            (Block * len(blocks))(*blocks),
            byref(final_norm),
            byref(head),
            byref(exact),
            self.variant.encode(),
        )
        if not self._model:
            raise EngineError(f"the int8 kernels ({self.variant}) could not start {n_threads} threads")
        closing = weakref.finalize(self, library.midfill_close, self._model)
        closing.atexit = False  # a process may end while its worker is in the midst of a layer

    def embed(self, ids: Tensor, first_position: int) -> Tensor:
        """Token and position embeddings, which are not quantised: a row is all that a token reads of them.

        Shapes: ids (1, T), result (1, T, E). Raises: IndexError.
        """
        ids = ids.to(torch.int64).contiguous()
        h = torch.empty(1, ids.shape[1], self._embeddings.n_embd)
        address = byref(self._embeddings)
        match self._library.midfill_embed(address, ids.data_ptr(), ids.shape[1], first_position, h.data_ptr()):
            case -1:
                raise IndexError("a token id is out of range")
            case -2:
                raise EngineError("the file of int8 weights can no longer be read; restart the engine")
        return h

    def layers(self, h: Tensor, kv: Tensor, n_cached: int) -> Layers:
        """What runs so many layers from one on, in place; addresses are asked for once a pass, not in every layer.

        Shapes: h (1, T, E); kv (1, K, C, 2 * D) is the first layer's, the others' follow; it has room behind the cached rows.
        """
        strides = kv.numel(), kv.stride(1)
        return partial(self._library.midfill_layers, self._model, h.data_ptr(), h.shape[1], kv.data_ptr(), *strides, n_cached)

    def head(self, h: Tensor, logits: Tensor) -> None:
        """Final norm and head. Shapes: h (1, T, E); logits (1, T, V) is written."""
        _check(self._library.midfill_head(self._model, h.data_ptr(), h.shape[1], logits.data_ptr()))

    def read_speed(self) -> float:
        """Bytes per second that all threads together read of the weights, one after the other as a token reads them."""
        weights = [
            tensor for tensor in self._tensors.values() if tensor.dtype is torch.int8 and tensor.nbytes >= MIN_TELLING_BYTES
        ]
        speeds: list[float] = [
            self._library.midfill_read_speed(self._model, tensor.data_ptr(), tensor.nbytes) for tensor in weights
        ]
        taken_s: float = sum(tensor.nbytes / speed for tensor, speed in zip(weights, speeds, strict=True))
        return sum(tensor.nbytes for tensor in weights) / taken_s

    def multiply(self, weight: Linear, x: Tensor) -> Tensor:
        """x through one linear layer, for tests. Shapes: x (T, K), result (T, N)."""
        out = torch.empty(len(x), weight.n_out)
        _check(self._library.midfill_linear(self._model, byref(weight), x.data_ptr(), len(x), out.data_ptr()))
        return out

    def _block(self, name: str, n_embd: int, n_inner: int) -> Block:
        return Block(
            self._norm(f"{name}.ln_1"),
            self._norm(f"{name}.ln_2"),
            self._linear(f"{name}.attn.c_attn", n_embd),
            self._linear(f"{name}.attn.c_proj", n_embd, n_embd),
            self._linear(f"{name}.mlp.c_fc", n_embd, n_inner),
            self._linear(f"{name}.mlp.c_proj", n_inner, n_embd),
        )

    def _norm(self, name: str) -> Norm:
        return Norm(self._tensors[f"{name}.weight"].data_ptr(), self._tensors[f"{name}.bias"].data_ptr())

    def _linear(self, name: str, n_in: int, n_out: int | None = None) -> Linear:
        """`n_out` None: all of the panels, whose sections the kernels know."""
        weight, scales = self._tensors[f"{name}.weight"], self._tensors[f"{name}.weight_scale"]
        bias = self._tensors.setdefault(f"{name}.bias", torch.zeros_like(scales))
        linear = Linear(weight.data_ptr(), scales.data_ptr(), bias.data_ptr(), n_in, n_out or len(scales))
        if (rest := self._tensors.get(f"{name}.weight_rest")) is not None:
            scales = self._tensors[f"{name}.weight_rest_scale"]
            no_bias = self._tensors.setdefault(f"{name}.no_bias", torch.zeros_like(scales))
            self._rests.append(Linear(rest.data_ptr(), scales.data_ptr(), no_bias.data_ptr(), n_in, linear.n_out))
            linear.rest = ctypes.addressof(self._rests[-1])
        return linear


class QuantizedBlock(nn.Module):
    """One layer, or the first of some; a module so that hooks see the rows that go in."""

    def __init__(self, layer_idx: int) -> None:
        super().__init__()
        self._layer_idx = layer_idx

    def forward(self, h: Tensor, layers: Layers, n_layers: int = 1) -> Tensor:
        """Overwrites `h`, and the cache's rows behind its live prefix. Shapes: h and result (1, T, E)."""
        _check(layers(self._layer_idx, n_layers))
        return h


class QuantizedModel(nn.Module):
    """The transformer without a head, one sequence at a time."""

    def __init__(self, config: GPTBigCodeConfig, kernels: Kernels) -> None:
        super().__init__()
        self.config = config
        self._kernels = kernels
        self._n_together = max(TOGETHER_BYTES // kernels.layer_bytes, 1)
        self.h = nn.ModuleList(QuantizedBlock(layer_idx) for layer_idx in range(config.n_layer))

    def new_cache(self) -> KVCache:
        """An empty cache that fits this model."""
        return KVCache(CacheShape.of(self.config, torch.float32, torch.device("cpu")))

    def forward(self, input_ids: Tensor, kv_cache: KVCache, before_layer: LayerHook | None = None) -> Tensor:
        """Hidden states before the final norm; see `GPTBigCodeModel.forward`, but `before_layer` is called once a millisecond
        where layers take less. Shapes: input_ids (1, T), result (1, T, E).
        """
        n_new = input_ids.shape[1]
        kv_cache.reserve(n_new)
        h = self._kernels.embed(input_ids, kv_cache.length)
        layers = self._kernels.layers(h, kv_cache.layer(0), kv_cache.length)
        n_layers = len(self.h)
        n_together = self._n_together if n_new <= FEW_ROWS else 1
        for layer_idx in range(0, n_layers, n_together):
            if before_layer is not None:
                before_layer()
            h = self.h[layer_idx](h, layers, min(n_together, n_layers - layer_idx))
        kv_cache.commit(n_new)
        return h


class QuantizedForCausalLM(nn.Module):
    """What the decoder runs in place of `GPTBigCodeForCausalLM` where the weights are int8."""

    def __init__(self, config: GPTBigCodeConfig, kernels: Kernels, n_used_ids: int) -> None:
        super().__init__()
        self.config = config
        self.kernels = kernels
        self.n_used_ids = n_used_ids  # ids from here on are padding of the embedding, and never chosen
        self.transformer = QuantizedModel(config, kernels)
        self.device = torch.device("cpu")

    @classmethod
    def from_pretrained(
        cls,
        folder: Path,
        *,
        n_threads: int,
        variant: str | None = None,
        library: ctypes.CDLL | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Loads a folder in any layout.

        Raises: CheckpointError; NoKernels where the machine cannot run them.
        """
        library = library or load_library()
        config = GPTBigCodeConfig.from_pretrained(folder)

        def checksum(tensor: Tensor) -> int:
            return int(library.midfill_checksum(tensor.data_ptr(), tensor.nbytes))

        held = load_quantized(folder, config, checksum, progress)
        kernels = Kernels(library, config, held, n_threads=n_threads, variant=variant)
        return cls(config, kernels, min(config.vocab_size, n_used_ids(folder) or config.vocab_size))

    def new_cache(self) -> KVCache:
        """An empty cache that fits this model."""
        return self.transformer.new_cache()

    def forward(
        self,
        input_ids: Tensor,
        *,
        kv_cache: KVCache | None = None,
        logits_to_keep: int | None = None,
        before_layer: LayerHook | None = None,
    ) -> HeadOutput:
        """Scores the next token after each new one; see `GPTBigCodeForCausalLM.forward`, whose batches it does not take."""
        kv_cache = kv_cache or self.new_cache()
        h = self.transformer(input_ids, kv_cache, before_layer)
        if logits_to_keep is not None:
            h = h[:, -logits_to_keep:]
        logits = torch.empty(1, h.shape[1], self.config.vocab_size)
        self.kernels.head(h, logits)
        return HeadOutput(logits, kv_cache=kv_cache)


def _check(result: int) -> None:
    if result:
        raise MemoryError("no memory for the rows of a pass")
