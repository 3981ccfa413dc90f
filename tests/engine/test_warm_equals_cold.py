"""The promise that nothing may break: given the same prompt ids, a warm cache and a cold one answer alike.

Replays real editing, with jumps, undo, pastes and forced evictions mixed in, and asks an engine that knows nothing for the
same prompt ids each time. In float32 the ids must be equal; where they are not, the reference must have been undecided. In
int8 every number is the same to the last bit.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.api import Order, Request, Stop
from engine.cache_pool import CachedPrompt, CachePool
from engine.decoder import Decoder
from engine.jobs import Job
from engine.quantized_model import QuantizedForCausalLM
from engine.tokenizer import Tokenizer
from lsp_server.prompt import cut
from lsp_server.text import Text
from tests.bench.trace import keystrokes
from tests.engine.conftest import load, write_checkpoint

TRACE = Path(__file__).parents[1] / "data" / "rustcode-2400.json.gz"
MAX_GAP = 1e-3  # between the two likeliest logits; below it the order of float32 sums may decide
N_POSITIONS, MAX_TOKENS, MAX_CHARS = 384, 4, 1000


def requests(seed: int) -> Iterator[tuple[Request, bool]]:
    """One request after each edit, and whether the cursor rests behind it."""
    rng, before = random.Random(seed), Text.of("")
    for idx, key in enumerate(keystrokes(TRACE)):
        text, cursor = key.text, key.cursor
        match rng.random():
            case draw if draw < 0.06:  # a jump
                cursor = rng.randrange(text.n_chars)
            case draw if draw < 0.09:  # undo
                text, cursor = before, min(cursor, before.n_chars)
            case draw if draw < 0.11:  # a paste
                pasted = text.slice(start := rng.randrange(text.n_chars), start + 200)
                text = text.replace(text.position(cursor), text.position(cursor), pasted)
                cursor += len(pasted)
        before = key.text
        prompt = cut(text, cursor, MAX_CHARS)
        document = f"document {idx // 40 % 3}"  # three take turns under a budget that holds fewer
        stop = rng.choice(list(Stop))
        yield (
            Request(document=document, prefix=prompt.prefix, suffix=prompt.suffix, max_tokens=MAX_TOKENS, stop=stop),
            key.gap_s > 0.2,
        )


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_over_two_thousand_keystrokes(tmp_path, dtype) -> None:
    folder = write_checkpoint(tmp_path, n_positions=N_POSITIONS, n_embd=32, n_layer=2, n_head=2)
    model = load(folder) if dtype == "float32" else QuantizedForCausalLM.from_pretrained(folder, n_threads=1)
    tokenizer = Tokenizer.from_pretrained(folder)
    n_bytes = 5 * N_POSITIONS * model.transformer.new_cache().shape.bytes_per_token
    warm = Decoder(model, tokenizer, CachePool(model.transformer.new_cache, n_bytes))
    n_asked, n_reused, orders, undecided = 0, 0, set(), []
    for request, rests in requests(seed=0):
        chunks = list(warm.complete(Job(request)))
        document = warm.pool.document(request.document)
        prompt, written, counters = document.asked, document.written, chunks[-1].counters
        cold = Decoder(model, tokenizer, CachePool(model.transformer.new_cache, n_bytes))
        reference = list(cold.complete(Job(replace(request, document="cold")), prompt))
        wanted = cold.pool.document("cold").written
        if (
            "".join(chunk.text for chunk in chunks) != "".join(chunk.text for chunk in reference)
            or written[: len(wanted)] != wanted
        ):
            assert dtype == "float32"
            undecided.append(gap_at_first_difference(model, prompt.ids, written, wanted))
        assert dtype == "float32" or have_the_same_rows(document.prompts[-1], cold.pool.document("cold").prompts[-1])
        assert warm.pool.n_bytes <= n_bytes
        n_asked, n_reused = n_asked + 1, n_reused + counters.reused
        orders.add(counters.order)
        if rests:
            warm.prefetch(Job(request))
    print(f"{n_asked} answers, {n_reused} tokens reused, undecided: {undecided}")
    assert n_asked >= 2000
    assert orders == {Order.SPM, Order.PSM}
    assert all(gap < MAX_GAP for gap in undecided)


def have_the_same_rows(one: CachedPrompt, other: CachedPrompt) -> bool:
    """Whether keys and values agree to the last bit as far as the ids do."""
    n = one.n_matching(other.ids)
    layers = range(one.kv.shape.n_layer)
    return n > 0 and all(one.kv.layer(idx)[..., :n, :].equal(other.kv.layer(idx)[..., :n, :]) for idx in layers)


def gap_at_first_difference(model, prompt: tuple[int, ...], written: tuple[int, ...], wanted: tuple[int, ...]) -> float:
    """How far apart the reference's two likeliest tokens were where the answers part."""
    n_same = next((n for n, (a, b) in enumerate(zip(written, wanted, strict=False)) if a != b), min(len(written), len(wanted)))
    with torch.inference_mode():
        logits = model(torch.tensor([[*prompt, *wanted[:n_same]]]), logits_to_keep=1).logits[0, -1]
    likeliest = logits.topk(2).values
    return float(likeliest[0] - likeliest[1])
