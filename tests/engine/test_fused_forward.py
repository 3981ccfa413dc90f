"""Fused kernels, interpreted on the CPU: the scores, cache rows and verdicts of torch's operators, in every shape of a pass."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from engine.appending import MaskedAppending, NewRows
from engine.config import ACTIVATIONS
from engine.graphs import LAST_PICK, SHAPES, StaticDecoder, record_nothing
from engine.heads import GPTBigCodeForCausalLM
from engine.static_forward import OperatorForward, StaticForward
from tests.engine.pairs import random_ids, relative_error, stirred
from tests.engine.test_attention import model

pytest.importorskip("triton", reason="Triton has no build for this system")
from engine.fused_forward import FusedForward

BOUNDS = {torch.float32: 1e-6, torch.float16: 3e-3}  # Triton's interpreter knows no products of bfloat16
CAPACITY, LENGTHS = 512, (37, 300, 0, 129)  # with shares of 128 keys: none, one, and several


def small(**changes: object) -> GPTBigCodeForCausalLM:
    return stirred(model(**{"n_layer": 2, "n_embd": 64, **changes}))


def both(ours: GPTBigCodeForCausalLM) -> tuple[StaticForward, StaticForward]:
    return OperatorForward(ours, MaskedAppending(ours.config)), FusedForward(ours)


def scores(
    ours: GPTBigCodeForCausalLM, forward: StaticForward, shape: tuple[int, int], n_more: int = 0
) -> tuple[Tensor, Tensor]:
    """A pass over random rows behind random ones, some of them never taken; scores, and the cache as it was left."""
    generator, config = torch.Generator().manual_seed(shape[1]), ours.config
    size = config.n_layer, shape[0] + 1, CAPACITY, config.n_kv_head, 2 * config.head_dim
    kv = torch.empty(size).normal_(generator=generator).to(ours.dtype)
    ids = torch.randint(3, config.vocab_size, shape, generator=generator)
    ids[:, 1:].masked_fill_(torch.rand(ids[:, 1:].shape, generator=generator) < 0.2, -1)
    rows = NewRows(torch.tensor(LENGTHS[: shape[0]]), shape[1], CAPACITY)
    with torch.inference_mode():
        return forward(ids, kv[:, : shape[0]], rows), kv


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("multi_query", [True, False])
@pytest.mark.parametrize("dtype", list(BOUNDS))
def test_a_pass_is_that_of_torch_s_operators(dtype, multi_query, shape) -> None:
    ours = small(dtype=dtype, multi_query=multi_query)
    (wanted, wanted_kv), (got, got_kv) = (scores(ours, forward, shape) for forward in both(ours))
    assert got.dtype == torch.float32
    assert relative_error(got, wanted) <= BOUNDS[dtype]
    assert relative_error(got_kv, wanted_kv) <= BOUNDS[dtype]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation(activation) -> None:
    ours = small(n_layer=1, activation_function=activation)
    (wanted, _), (got, _) = (scores(ours, forward, (1, 2)) for forward in both(ours))
    assert relative_error(got, wanted) <= 2e-6


@pytest.mark.parametrize(
    "changes",
    [
        {"n_embd": 96, "n_head": 2},  # a head of 48, no power of two
        {"n_embd": 176, "n_head": 11, "n_inner": 304},  # as 3b: widths that few powers of two divide
        {"n_head": 1},
        {"vocab_size": 2500},  # several shares of a verdict
        {"n_embd": 64, "n_inner": 4352},  # blocks of 32 outputs
        {"tie_word_embeddings": False, "scale_attn_weights": False},
    ],
    ids=str,
)
def test_other_widths(changes) -> None:
    ours = small(**{"n_layer": 1, "initializer_range": 0.1, **changes})
    for shape in ((1, 1), (1, 4), (2, 1)):
        (wanted, wanted_kv), (got, got_kv) = (scores(ours, forward, shape) for forward in both(ours))
        assert relative_error(got, wanted) <= 2e-6
        assert relative_error(got_kv, wanted_kv) <= 2e-6


def test_padding_ids_are_left_out() -> None:
    ours = small(n_layer=1)
    ours.n_used_ids = 83
    (wanted, _), (got, _) = (scores(ours, forward, (1, 2)) for forward in both(ours))
    assert got.shape == (1, 2, 83)
    assert relative_error(got, wanted) <= 1e-6


def test_rows_past_the_last_position_are_computed_as_its() -> None:
    """They are never taken; nothing may be read or written out of bounds for them."""
    ours = small(n_layer=1, n_positions=40)
    (wanted, _), (got, _) = (scores(ours, forward, (1, 8)) for forward in both(ours))
    assert relative_error(got, wanted) <= 1e-6


def test_a_norm_of_rows_far_from_zero_loses_nothing() -> None:
    ours = small(n_layer=1)
    with torch.no_grad():
        ours.transformer.wpe.weight += 300.0
    (wanted, _), (got, _) = (scores(ours, forward, (1, 2)) for forward in both(ours))
    assert relative_error(got, wanted) <= 1e-4  # what float32 leaves of the difference, in either


def test_passes_write_what_torch_s_operators_write_and_take_as_much_of_a_draft() -> None:
    ours = small(n_layer=1, initializer_range=0.5)
    written = []
    for forward in both(ours):
        static, cache = StaticDecoder(ours, forward, record_nothing), ours.new_cache()
        with torch.inference_mode():
            ours(random_ids((1, 30)), kv_cache=cache)
        static.load([cache])
        picks = [static.launch([(5,)]).read()[0]]
        drafts = [written[0][idx] for idx in (1, 2, 3)] if written else []
        for _ in range(5 if not drafts else 2):
            picks += static.launch([(LAST_PICK, *drafts)]).read()
            drafts = []
        written.append([token_id for each in picks for token_id in each.token_ids])
    assert written[1] == written[0]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n_forced", [0, 3])
def test_verdicts_are_those_of_torch_s_operators(shape, n_forced) -> None:
    ours = small(vocab_size=4100)
    generator = torch.Generator().manual_seed(shape[1])
    logits = torch.randn(*shape, ours.config.vocab_size, generator=generator) * 3
    n_right = [1, 0, 3, 2][: shape[0]]
    ids = torch.randint(ours.config.vocab_size, shape, generator=generator)
    for idx, n in enumerate(n_right):
        n = min(n, shape[1] - 1)
        ids[idx, 1 : n + 1] = logits[idx, :n].argmax(-1)
    results = [
        forward.judge(logits, ids, torch.zeros(shape[0]), torch.tensor(min(n_forced, shape[1]))) for forward in both(ours)
    ]
    wanted, got = results
    assert torch.equal(got[:, : shape[1]], wanted[:, : shape[1]])
    assert torch.allclose(got[:, shape[1] : -1], wanted[:, shape[1] : -1], atol=1e-5)
    assert torch.equal(got[:, -1], wanted[:, -1])


def test_a_verdict_at_a_temperature_draws_by_probability_and_never_twice_alike() -> None:
    ours = small(vocab_size=8)
    logits = torch.randn(1, 16, 8, generator=torch.Generator().manual_seed(0))
    logits[:] = logits[:, :1]
    probs = (logits[0, 0] / 2.0).softmax(-1)
    torch.manual_seed(0)
    forward, counts = FusedForward(ours), torch.zeros(8)
    for _ in range(15):
        picks = forward.judge(logits, torch.full((1, 16), -1), torch.tensor([2.0]), torch.tensor(0))[0, :16]
        counts += torch.bincount(picks.long(), minlength=8)
    assert float((counts / counts.sum() - probs).abs().sum()) < 0.3  # total variation; of another distribution it is near 2


def test_sequences_have_their_own_temperatures() -> None:
    ours = small(vocab_size=64)
    logits, ids = torch.zeros(2, 1, 64), torch.full((2, 1), -1)
    logits[:, :, 5] = 0.1
    torch.manual_seed(0)
    for forward in both(ours):
        results = [forward.judge(logits, ids, torch.tensor([0.0, 1.0]), torch.tensor(0)) for _ in range(8)]
        assert {int(result[0, 0]) for result in results} == {5}
        assert len({int(result[1, 0]) for result in results}) > 2


def test_widths_that_no_kernel_takes_are_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match=r"widths \(40, 160\) are no multiples of 16"):
        FusedForward(model(n_embd=40))
