"""A pass of a few rows by kernels of our own: six launches a layer, where torch's operators take twelve to sixteen.

The kernels are in `fused_linear`, `fused_attention` and `fused_verdict`; `OperatorForward` is the reference.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from triton.errors import TritonError

from engine import fused_attention, fused_linear, fused_verdict
from engine.appending import NewRows
from engine.heads import GPTBigCodeForCausalLM
from engine.model import GPTBigCodeBlock

BLOCK_ROWS = 16  # the smallest side of a product on tensor cores, and the most rows of a pass
MAX_BLOCK_IN, MAX_BLOCK_OUT, N_PROGRAMS = 256, 64, 256
TILE_BYTES, SHARED_BYTES = 24 << 10, 72 << 10  # of one step of a product, and of all that are fetched ahead
MAX_STAGES = 6
MAX_GROUPS = 4
FETCHED_BYTES = 16 << 20  # of all programs' weights, before a kernel may begin: more would push one another out of the cache
KEYS_PER_SPLIT, BLOCK_KEYS = 128, 64
MAX_BLOCK_QUERIES = 64
BLOCK_SPLITS = 128
BLOCK_VOCAB = 2048
LOG2_E = math.log2(math.e)
ACTIVATIONS = {"relu": "relu", "gelu": "erf"}  # the others are forms of the tanh


@dataclass(frozen=True, slots=True)
class _Rows:
    """Hidden states, those of the residual stream with the moments that a norm needs.

    Shapes: h (rows, width); moments (2, parts, BLOCK_ROWS) float32.
    """

    h: Tensor
    moments: Tensor | None = None


class FusedForward:
    """A model's recorded passes, by fused kernels.

    Numerics: as the operators', but what a kernel keeps to itself is not rounded (a product before its activation).
    """

    def __init__(self, model: GPTBigCodeForCausalLM, *, overlaps: bool = False) -> None:
        """With `overlaps` a kernel is launched while the one before it runs, and fetches weights; from capability 9.0 on.

        Raises: ValueError where the model's widths are none of the kernels'.
        """
        config = model.config
        widths = config.n_embd, config.inner_dim
        if any(width % 16 for width in widths):
            raise ValueError(f"widths {widths} are no multiples of 16")
        if config.n_embd % _block_out(config.n_embd):
            raise ValueError(f"n_embd {config.n_embd} is no multiple of {_block_out(config.n_embd)}")
        self._model, self._config = model, config
        self.name = "fused, overlapping" if overlaps else "fused"
        self._launch = {"OVERLAPS": True, "launch_pdl": True} if overlaps else {"OVERLAPS": False}
        self._seed = torch.randint(1 << 62, (1,)).to(model.device)  # torch's own generator does not reach into the kernels
        self._scale = LOG2_E * (config.head_dim**-0.5 if config.scale_attn_weights else 1.0)
        self._activation = ACTIVATIONS.get(config.activation_function, "tanh")

    def __call__(self, ids: Tensor, kv: Tensor, rows: NewRows) -> Tensor:
        """See `StaticForward`.

        Raises: RuntimeError where the kernels cannot be compiled for this device, or ask for more than it has.
        """
        with _as_runtime_error():
            return self._scores(ids, kv, rows)

    def _scores(self, ids: Tensor, kv: Tensor, rows: NewRows) -> Tensor:
        transformer = self._model.transformer
        stream = self._embed(ids, rows)
        for block, layer in zip(transformer.h, kv, strict=True):
            assert isinstance(block, GPTBigCodeBlock)
            stream = self._block(block, stream, layer, rows)
        n_used = self._model.n_used_ids
        logits = stream.h.new_empty(len(stream.h), n_used, dtype=torch.float32)
        self._linear(stream, self._model.lm_head, _Rows(logits), norm=transformer.ln_f)
        return logits.view(*ids.shape, n_used)

    def judge(self, logits: Tensor, ids: Tensor, temperature: Tensor, n_forced: Tensor) -> Tensor:
        """See `StaticForward`."""
        (n_batch, n_new), n_vocab = ids.shape, logits.shape[-1]
        n_parts = -(-n_vocab // BLOCK_VOCAB)
        parts = logits.new_empty(ids.numel(), n_parts, 5)
        result = logits.new_empty(n_batch, 2 * n_new + 1)
        with _as_runtime_error():
            options = {"BLOCK": BLOCK_VOCAB, **self._launch}
            fused_verdict.pick[(ids.numel(), n_parts)](logits, temperature, self._seed, parts, n_new, n_vocab, **options)
            options = {"BLOCK_ROWS": BLOCK_ROWS, "BLOCK_PARTS": _power_of_two(n_parts), **self._launch}
            fused_verdict.judge[(1,)](parts, ids, n_forced, self._seed, result, ids.numel(), n_new, n_parts, **options)
        return result

    def _embed(self, ids: Tensor, rows: NewRows) -> _Rows:
        transformer, config = self._model.transformer, self._config
        block_out = _block_out(config.n_embd)
        stream = self._new_rows(ids.numel())
        fused_linear.embed[(config.n_embd // block_out,)](
            ids,
            rows.lengths,
            transformer.wte.weight,
            transformer.wpe.weight,
            stream.h,
            stream.moments,
            ids.numel(),
            rows.n_new,
            config.n_positions,
            config.n_embd,
            BLOCK_ROWS=BLOCK_ROWS,
            BLOCK_OUT=block_out,
            **self._launch,
        )
        return stream

    def _block(self, block: GPTBigCodeBlock, stream: _Rows, kv: Tensor, rows: NewRows) -> _Rows:
        """One layer, as `GPTBigCodeBlock.forward`. Shapes: kv (B, C, K, 2 * D)."""
        q = torch.empty_like(stream.h)
        self._linear(stream, block.attn.c_attn, _Rows(q), norm=block.ln_1, cache=(kv, rows))
        stream = self._added(_Rows(self._attend(q, kv, rows)), block.attn.c_proj, stream)
        inner = _Rows(stream.h.new_empty(len(stream.h), self._config.inner_dim))
        self._linear(stream, block.mlp.c_fc, inner, norm=block.ln_2, activation=self._activation)
        return self._added(inner, block.mlp.c_proj, stream)

    def _added(self, x: _Rows, layer: nn.Linear, stream: _Rows) -> _Rows:
        """The residual stream behind one more layer."""
        added = self._new_rows(len(stream.h))
        self._linear(x, layer, added, residual=stream.h)
        return added

    def _new_rows(self, n_rows: int) -> _Rows:
        n_embd, like = self._config.n_embd, self._model.transformer.wte.weight
        moments = like.new_empty(2, n_embd // _block_out(n_embd), BLOCK_ROWS, dtype=torch.float32)
        return _Rows(like.new_empty(n_rows, n_embd), moments)

    def _linear(
        self,
        x: _Rows,
        layer: nn.Linear,
        out: _Rows,
        *,
        norm: nn.LayerNorm | None = None,
        activation: str | None = None,
        residual: Tensor | None = None,
        cache: tuple[Tensor, NewRows] | None = None,
    ) -> None:
        """Fills `out`. With a `cache` the layer is c_attn: queries go into `out`, keys and values into the cache."""
        n_in, n_out = x.h.shape[1], out.h.shape[1] if cache is None else len(layer.weight)
        block_out = _block_out(n_out)
        block_in, n_groups, stages = _steps(n_in, block_out, x.h.element_size(), layer.weight.element_size())
        n_parts = 1 if norm is None or x.moments is None else x.moments.shape[1]
        kv, rows = cache or (None, None)
        fused_linear.linear[(-(-n_out // block_out),)](
            x.h,
            layer.weight,
            getattr(layer, "scale", None),
            layer.bias,
            None if norm is None else norm.weight,
            None if norm is None else norm.bias,
            None if norm is None else x.moments,
            residual,
            out.h,
            out.moments,
            kv,
            None if rows is None else rows.lengths,
            len(x.h),
            n_out,
            n_in,
            n_parts,
            self._config.layer_norm_epsilon,
            1 if rows is None else rows.n_new,
            self._config.n_embd // self._config.n_kv_head,
            2 * self._config.head_dim,
            1 if rows is None else rows.capacity,
            ACTIVATION=activation,
            BLOCK_ROWS=BLOCK_ROWS,
            BLOCK_OUT=block_out,
            BLOCK_IN=block_in,
            GROUPS=n_groups,
            BLOCK_PARTS=_power_of_two(n_parts),
            N_FETCHED=_n_fetched(n_out, layer.weight.element_size()),
            num_stages=stages,
            **self._launch,
        )

    def _attend(self, q: Tensor, kv: Tensor, rows: NewRows) -> Tensor:
        """Attention over the cache, new rows included. Shapes: q and result (rows, E), kv (B, C, K, 2 * D)."""
        config = self._config
        n_rows, n_batch, head_dim = len(q), len(kv), config.head_dim
        n_splits = -(-rows.capacity // KEYS_PER_SPLIT)  # not of the keys in use: a graph's launches are fixed
        n_queries = rows.n_new * config.n_head // config.n_kv_head  # of one key/value head
        block_dim = max(_power_of_two(head_dim), 16)
        is_narrow = block_dim * q.element_size() <= 256  # else less fits into the smallest devices
        block_rows = min(max(_power_of_two(n_queries), BLOCK_ROWS), MAX_BLOCK_QUERIES if is_narrow else MAX_BLOCK_QUERIES // 2)
        mixed = q.new_empty(n_splits, n_rows, config.n_head, head_dim, dtype=torch.float32)
        weights = q.new_empty(n_splits, n_rows, config.n_head, dtype=torch.float32)
        fused_attention.attend[(n_splits, -(-n_queries // block_rows), n_batch * config.n_kv_head)](
            q,
            kv,
            rows.lengths,
            mixed,
            weights,
            n_batch,
            rows.n_new,
            config.n_head,
            config.n_kv_head,
            head_dim,
            rows.capacity,
            self._scale,
            BLOCK_ROWS=block_rows,
            BLOCK_KEYS=BLOCK_KEYS,
            BLOCK_DIM=block_dim,
            KEYS_PER_SPLIT=KEYS_PER_SPLIT,
            num_warps=4 if block_rows < MAX_BLOCK_QUERIES else 8,
            num_stages=3 if is_narrow else 2,
            **self._launch,
        )
        out = torch.empty_like(q)
        fused_attention.merge[(n_rows * config.n_head,)](
            mixed,
            weights,
            rows.lengths,
            out,
            n_batch,
            rows.n_new,
            config.n_head,
            head_dim,
            BLOCK_SPLITS=BLOCK_SPLITS,
            BLOCK_DIM=block_dim,
            KEYS_PER_SPLIT=KEYS_PER_SPLIT,
            num_warps=8,
            **self._launch,
        )
        return out


@contextmanager
def _as_runtime_error() -> Iterator[None]:
    """Triton's errors are of a kind of their own, which nobody else can know."""
    try:
        yield
    except TritonError as error:
        raise RuntimeError(str(error)) from error


def _block_out(n_out: int) -> int:
    """Outputs of one program: so many that a large GPU has one or two programs for each of its processors."""
    return min(max(_power_of_two(n_out // N_PROGRAMS), 16), MAX_BLOCK_OUT)


def _steps(n_in: int, block_out: int, x_bytes: int, weight_bytes: int) -> tuple[int, int, int]:
    """A step's inputs of one group, its groups, and the steps under way: a bandwidth needs about 20 KB per processor."""
    bytes_per_input = BLOCK_ROWS * x_bytes + block_out * weight_bytes
    step = math.gcd(n_in, MAX_BLOCK_IN)
    while step * bytes_per_input > TILE_BYTES:
        step //= 2
    block_in = max(step // MAX_GROUPS, 16)
    return block_in, step // block_in, min(1 + SHARED_BYTES // (step * bytes_per_input), MAX_STAGES)


def _n_fetched(n_out: int, weight_bytes: int) -> int:
    """Inputs of each output whose weights are fetched ahead, whole lines of 128 bytes."""
    fitting = FETCHED_BYTES // (n_out * weight_bytes)
    return min(max(_power_of_two(fitting + 1) // 2, 128), 1024)


def _power_of_two(n: int) -> int:
    """The smallest that is not less."""
    return 1 << max(n - 1, 0).bit_length()
