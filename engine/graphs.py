"""Decoding in passes of a few fixed shapes over one static cache, each recorded once and replayed as a CUDA graph.

At one sequence, what a GPU waits for is launches; a replay is one, whatever the layers. Lengths, last picks and the verdict on
drafts stay on the device, so a pass can be launched before the one ahead of it was read. The recorder is a parameter: with
`record_nothing` all of this runs on any device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.appending import PAGE_TOKENS, NewRows
from engine.fim import Ids
from engine.heads import GPTBigCodeForCausalLM
from engine.kv_cache import KVCache
from engine.static_forward import StaticForward

SHAPES = ((1, 1), (1, 2), (1, 4), (1, 8), (1, 16), (2, 1), (4, 1))  # sequences, rows of each
MAX_SEQUENCES, MAX_ROWS = (max(counts) for counts in zip(*SHAPES, strict=True))
N_SPARE = 4 * MAX_ROWS  # places behind the model's positions: for rows that are launched and never taken
LAST_PICK = -1  # for a pass's first id: what the device picked last; behind it: no draft

Pass = Callable[[], None]
Recorder = Callable[[Pass], Pass]


def record_nothing(run: Pass) -> Pass:
    """The recorder for devices without graphs: a replay is the pass itself."""
    return run


def record_cuda_graph(run: Pass) -> Pass:
    """Runs the pass, so that kernels are loaded and workspaces allocated, and records it."""
    graph = torch.cuda.CUDAGraph()
    recording = torch.cuda.graph(graph, capture_error_mode="thread_local")  # other threads may go on with what they do
    stream = recording.capture_stream  # the same for all graphs: a stream has workspaces of its own
    assert stream is not None
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # around the recording too, which does not leave it where it fails
        for _ in range(2):
            run()
        with recording:
            run()
    torch.cuda.current_stream().wait_stream(stream)
    return graph.replay


@dataclass(frozen=True, slots=True)
class Picks:
    """What one sequence got of a pass: the token behind each row that was taken, and its log-probability."""

    token_ids: Ids
    logprobs: tuple[float, ...]


class Launched:
    """A pass under way; reading it is the one time that the host waits."""

    def __init__(self, result: Tensor, logits: Tensor) -> None:
        """Shapes: result (B, 2 * T + 1): picks, log-probabilities, rows taken; logits (B, V)."""
        self.logits = logits  # behind each sequence's last row taken; the next pass of this shape overwrites them
        self.n_rows = len(result) * (result.shape[1] // 2)  # that the model computes, of all sequences
        self._result = result.to("cpu", non_blocking=True, copy=True)  # into pinned memory
        self._event = torch.cuda.Event() if result.is_cuda else None  # type: ignore[no-untyped-call]
        if self._event is not None:
            self._event.record()

    def read(self) -> list[Picks]:
        """Waits for the pass; one answer per sequence."""
        if self._event is not None:
            self._event.synchronize()
        picks = []
        for *numbers, n_taken in self._result.tolist():
            half, n = len(numbers) // 2, int(n_taken)
            picks.append(Picks(tuple(map(int, numbers[:n])), tuple(numbers[half : half + n])))
        return picks


class StaticDecoder:
    """A model's decoding passes, over a cache with a fixed slot for each of a few sequences."""

    def __init__(self, model: GPTBigCodeForCausalLM, forward: StaticForward, record: Recorder) -> None:
        self.model, self.forward, self.record = model, forward, record
        shape, device = model.new_cache().shape, model.device
        self.capacity = -(-(shape.n_positions + N_SPARE) // PAGE_TOKENS) * PAGE_TOKENS
        size = (shape.n_layer, MAX_SEQUENCES, self.capacity, shape.n_kv_head, 2 * shape.head_dim)
        with torch.inference_mode():
            self.kv = torch.zeros(size, dtype=shape.dtype, device=device)  # (L, B, C, K, 2 * D)
            self.lengths = torch.zeros(MAX_SEQUENCES, dtype=torch.long, device=device)
            self.last = torch.zeros(MAX_SEQUENCES, dtype=torch.long, device=device)
            self.temperature = torch.zeros(MAX_SEQUENCES, device=device)
        self._passes: dict[tuple[int, int], _StaticPass] = {}

    def use(self, forward: StaticForward) -> None:
        """Takes another way through the model; what was recorded is forgotten."""
        self.forward = forward
        self._passes.clear()

    def warm_up(self) -> None:
        """Records every shape, so that no request pays for it."""
        for shape in SHAPES:
            self._pass(shape)

    @torch.inference_mode()
    def load(self, caches: Sequence[KVCache], temperatures: Sequence[float] = ()) -> None:
        """Copies each cache into a sequence's slot, greedy without a temperature; the first pass must name its first id."""
        self.lengths.zero_()
        self.temperature.zero_()
        for idx, cache in enumerate(caches):
            self.kv[:, idx, : cache.length] = cache.rows(0)[:, 0].transpose(1, 2)  # (L, S, K, 2 * D)
            self.lengths[idx].fill_(cache.length)
        for idx, temperature in enumerate(temperatures):
            self.temperature[idx].fill_(temperature)

    @torch.inference_mode()
    def store(self, idx: int, cache: KVCache, n_rows: int) -> None:
        """Puts `n_rows` of a sequence, behind those that the cache has, into the cache."""
        new = self.kv[:, idx, cache.length : cache.length + n_rows]  # (L, T, K, 2 * D)
        cache.extend(new.transpose(1, 2)[:, None])

    @torch.inference_mode()
    def launch(self, ids: Sequence[Ids], *, forced: bool = False) -> Launched:
        """Starts a pass: for each sequence its first id, for a single one also a draft behind it. Waits for nothing.

        Of a draft so much is taken as the model picks itself; all of it where it is `forced`.
        """
        n_rows = len(ids[0])
        shape = next(shape for shape in SHAPES if shape[0] >= len(ids) and shape[1] >= n_rows)
        recorded = self._pass(shape)
        recorded.start(ids, n_rows if forced else 0)
        return Launched(recorded.result, recorded.logits)

    def _pass(self, shape: tuple[int, int]) -> _StaticPass:
        if shape not in self._passes:
            self._passes[shape] = _StaticPass(self, *shape)
        return self._passes[shape]


class _StaticPass:
    """One shape's pass: what it reads and writes lies at addresses that never change."""

    def __init__(self, decoder: StaticDecoder, n_sequences: int, n_rows: int) -> None:
        self._decoder, self._size = decoder, (n_sequences, n_rows)
        model, device = decoder.model, decoder.model.device
        with torch.inference_mode():
            self._ids = torch.full(self._size, LAST_PICK, device=device)
            self._n_forced = torch.zeros((), dtype=torch.long, device=device)
            self.result = torch.zeros(n_sequences, 2 * n_rows + 1, device=device)  # in float32 every id is exact
            self.logits = torch.zeros(n_sequences, model.n_used_ids, device=device)
            before = decoder.lengths.clone(), decoder.last.clone()
            self._replay = decoder.record(self._run)
            decoder.lengths.copy_(before[0])  # recording ran the pass
            decoder.last.copy_(before[1])
        self._is_blank = True  # nothing but last picks to read

    def start(self, ids: Sequence[Ids], n_forced: int) -> None:
        """Hands over the ids and replays."""
        is_blank = not n_forced and all(each == (LAST_PICK,) for each in ids)
        if not (is_blank and self._is_blank):
            padded = [(*each, *(LAST_PICK,) * (self._size[1] - len(each))) for each in ids]
            padded += [(LAST_PICK,) * self._size[1]] * (self._size[0] - len(ids))
            self._ids.copy_(torch.tensor(padded, pin_memory=self._ids.is_cuda), non_blocking=True)
            self._n_forced.fill_(n_forced)
            self._is_blank = is_blank
        self._replay()

    def _run(self) -> None:
        """The pass: scores, picks, and what of the draft is taken."""
        decoder, (n_sequences, n_rows) = self._decoder, self._size
        lengths, last = decoder.lengths[:n_sequences], decoder.last[:n_sequences]
        first = torch.where(self._ids[:, 0] == LAST_PICK, last, self._ids[:, 0])
        ids = torch.cat((first[:, None], self._ids[:, 1:]), dim=1)  # (B, T)
        rows = NewRows(lengths, n_rows, decoder.capacity)
        logits = decoder.forward(ids, decoder.kv[:, :n_sequences], rows)  # (B, T, V)
        result = decoder.forward.judge(logits, ids, decoder.temperature[:n_sequences], self._n_forced)
        n_taken = result[:, -1].long()
        last.copy_(result.gather(1, n_taken[:, None] - 1)[:, 0])
        self.logits.copy_(logits.gather(1, (n_taken - 1)[:, None, None].expand(-1, 1, logits.shape[-1]))[:, 0])
        lengths.add_(n_taken)
        self.result.copy_(result)
