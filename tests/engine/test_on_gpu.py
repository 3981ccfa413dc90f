"""What only a CUDA device can show: the real kernels, real graphs, and that no pass waits for the host."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from engine import gpu
from engine.api import EngineOptions, Finish, Request, Stop
from engine.appending import NewRows
from engine.attention import BACKENDS, EagerAttention
from engine.backends import FLASH_BACKENDS, choose_attention, make_attention
from engine.config import GPTBigCodeConfig
from engine.flash_attention import FlashAttention
from engine.graphs import LAST_PICK, SHAPES, StaticDecoder, record_cuda_graph, record_nothing
from engine.heads import GPTBigCodeForCausalLM
from engine.int8_linear import quantize_layers
from engine.jobs import Job
from engine.model_files import SHIPPED_MODEL
from engine.runtime import load, warm_up
from engine.steps import GraphStepper
from tests.engine.pairs import SHAPE, relative_error, stirred

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
HALVES = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])


def on_gpu(name: str, dtype: torch.dtype, **changes: object) -> GPTBigCodeForCausalLM:
    if name == FlashAttention.name and importlib.util.find_spec("flash_attn") is None:
        pytest.skip("the flash-attn package is not installed")
    shape = {"n_embd": 256, "n_head": 4, "n_positions": 1024, "n_layer": 4, **changes}
    config = GPTBigCodeConfig.from_dict({**SHAPE, **shape})
    torch.manual_seed(0)
    return stirred(GPTBigCodeForCausalLM(config, make_attention(name, config))).to("cuda", dtype).eval()


@HALVES
@pytest.mark.parametrize("name", list(FLASH_BACKENDS))
@pytest.mark.parametrize("multi_query", [True, False])
def test_real_kernels_are_the_reference_s(name, dtype, multi_query) -> None:
    model = on_gpu(name, dtype, multi_query=multi_query)
    assert gpu.why_unfit(model.transformer.attention, model) is None


@HALVES
@pytest.mark.parametrize("name", list(FLASH_BACKENDS))
@pytest.mark.parametrize("n_new", [1, 6])
def test_real_kernels_look_no_further_left_than_the_window(name, dtype, n_new) -> None:
    config = on_gpu(name, dtype).config
    attention, n_keys = FLASH_BACKENDS[name](config, window=40), 300
    q = torch.randn(2, n_new, config.n_head, config.head_dim, device="cuda", dtype=dtype)
    kv = torch.randn(2, 1, n_keys, 2 * config.head_dim, device="cuda", dtype=dtype)
    keys, rows = torch.arange(n_keys), torch.arange(n_keys - n_new, n_keys)[:, None]
    seen = (keys <= rows) & (keys > rows - 40)
    wanted = EagerAttention(config)(q.float().cpu(), kv.float().cpu(), seen[None, None], layer_idx=0, dropout_p=0.0)
    got = attention(q, kv, attention.prepare(n_new, n_keys - n_new, None, q), layer_idx=0, dropout_p=0.0)
    assert relative_error(got.float().cpu(), wanted) <= gpu.MAX_ERROR


@pytest.mark.parametrize("name", [*BACKENDS, *FLASH_BACKENDS])
def test_recorded_passes_pick_what_plain_ones_pick(name) -> None:
    model = on_gpu(name, torch.float16)
    ids = torch.arange(3, 90, device="cuda")[None]
    picked = []
    for record in (record_nothing, record_cuda_graph):
        cache = model.new_cache()
        with torch.inference_mode():
            model(ids[:, :-1], kv_cache=cache)
        static = StaticDecoder(model, gpu.operators(model), record)
        static.warm_up()
        static.load([cache])
        launched = static.launch([(int(ids[0, -1]),)])
        token_ids = []
        for n_rows in (1, 2, 4, 8, 16, 1, 1, 16):
            token_ids += launched.read()[0].token_ids
            launched = static.launch([(LAST_PICK, *(7,) * (n_rows - 1))])
        picked.append(token_ids)
    assert picked[0] == picked[1]


@HALVES
@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("multi_query", [True, False])
def test_fused_kernels_score_as_torch_s_operators(dtype, int8, multi_query) -> None:
    model = on_gpu("sdpa", dtype, multi_query=multi_query, vocab_size=5000)
    if int8:
        quantize_layers(model)
    config, lengths = model.config, torch.tensor([37, 700, 0, 129], device="cuda")
    for n_sequences, n_rows in SHAPES:
        kv = torch.randn(config.n_layer, 4, 1024, config.n_kv_head, 2 * config.head_dim, device="cuda").to(dtype)
        ids = torch.randint(3, 5000, (n_sequences, n_rows), device="cuda")
        rows = NewRows(lengths[:n_sequences], n_rows, 1024)
        wanted_kv = kv.clone()
        with torch.inference_mode(), torch.compiler.set_stance("force_eager"):
            wanted = gpu.operators(model)(ids, wanted_kv[:, :n_sequences], rows)
            for make in gpu.fused_ways(model.device):
                got_kv = kv.clone()
                got = make(model)(ids, got_kv[:, :n_sequences], rows)
                assert relative_error(got, wanted) <= gpu.MAX_ERROR * 2
                assert relative_error(got_kv, wanted_kv) <= gpu.MAX_ERROR


def test_kernels_that_overlap_change_no_bit_recorded_or_not() -> None:
    """They add in one order, so any difference is a race."""
    model = on_gpu("sdpa", torch.float16)
    prompt, scores = gpu._Prompt.random(model), []
    for make in gpu.fused_ways(model.device):
        for record in (record_nothing, record_cuda_graph):
            static = StaticDecoder(model, make(model), record)
            static.warm_up()
            scores += [gpu._scores(static, prompt) for _ in range(50)]
    for got in scores:
        assert all(map(torch.equal, got, scores[0]))


@pytest.mark.parametrize("way", [gpu.operators, gpu.fused])
def test_a_launch_never_waits_for_the_device(way) -> None:
    model = on_gpu("torch_flash", torch.float16)
    static = StaticDecoder(model, way(model), record_cuda_graph)
    static.warm_up()
    static.load([model.new_cache()])
    torch.cuda.set_sync_debug_mode("error")
    try:
        launched = [static.launch([ids]) for ids in ((5,), (LAST_PICK,), (LAST_PICK, 3, 4, 5), (LAST_PICK,))]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert [len(each.read()[0].token_ids) > 0 for each in launched] == [True] * 4


@pytest.mark.parametrize("dtype", ["auto", "int8"])
def test_the_engine_chooses_flash_and_graphs_and_answers(dtype) -> None:
    runtime = load(EngineOptions(model=str(SHIPPED_MODEL), dtype=dtype), lambda share: None)
    warm_up(runtime)
    assert isinstance(runtime.decoder._stepper, GraphStepper)
    assert runtime.placement.attention == choose_attention("auto", torch.float16, torch.device("cuda"))[0]
    for n in (1, 3):
        request = Request(document="d", prefix="def total(items):\n    ", suffix="\n", stop=Stop.NONE, n=n, max_tokens=20)
        chunks = list(runtime.decoder.complete(Job(request)))
        assert {chunk.choice for chunk in chunks} == set(range(n))
        assert chunks[-1].counters.finish in (Finish.MAX_TOKENS, Finish.END_OF_TEXT)
