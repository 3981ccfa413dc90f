"""int8 weights: one scale per output channel, quantised from any layout, packed as the kernels read them, and kept.

The packed weights are written beside the checkpoint, or into the user's cache where its folder cannot be written, under a
digest of the weight files' names, sizes and times: reading them all to name a file would cost what the file saves.
"""

from __future__ import annotations

import hashlib
import json
import logging
import mmap
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from engine.config import GPTBigCodeConfig
from engine.heads import GPTBigCodeForCausalLM
from engine.model_files import PACKED_FOLDER, cache_directory
from engine.native.library import STORED_DTYPES, FileRows
from engine.stored import our_name, weight_files
from engine.weights import Progress, read_weights

log = logging.getLogger(__name__)

FORMAT = 3  # of the packed file: a change makes old ones worthless
PANEL = 16  # outputs whose weights lie side by side
MAX_LEVEL = 127
HUGE_PAGE = 1 << 21
EMBEDDINGS = ("transformer.wte.weight", "transformer.wpe.weight")
# In 16 bits. Rounded to 8, the first alone moved the shipped model's answers (KL) twice as much as all other layers' matrices.
FINE = ("transformer.h.0.attn.c_attn.weight", "transformer.h.0.attn.c_proj.weight")
IN_MEMORY_BYTES = 1 << 25

Checksum = Callable[[Tensor], int]
Sections = tuple[int, ...]
Held = dict[str, Tensor | FileRows]


def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Levels and scales, weight = levels * scales. Shapes: weight (N, K), levels (N, K) int8, scales (N,)."""
    weight = weight.float()
    scales = weight.abs().amax(1) / MAX_LEVEL
    levels = (weight / scales.where(scales > 0, 1.0)[:, None]).round_()
    return levels.to(torch.int8), scales


def pack(levels: Tensor, sections: Sections) -> Tensor:
    """Levels in panels: each section of the rows, and the columns in pairs, end in zeros. Shapes: result (P, K / 2, 16, 2)."""
    parts = [F.pad(part, (0, part.shape[1] % 2, 0, -len(part) % PANEL)) for part in torch.split_with_sizes(levels, sections)]
    whole = torch.cat(parts)
    return whole.view(-1, PANEL, whole.shape[1] // 2, 2).transpose(1, 2).contiguous()


def pad_sections(values: Tensor, sections: Sections) -> Tensor:
    """One value per row of `pack`'s result. Shapes: values (N,), result (P * 16,)."""
    return torch.cat([F.pad(part, (0, -len(part) % PANEL)) for part in torch.split_with_sizes(values, sections)]).float()


class Quantizer:
    """Turns a checkpoint's tensors into those that the kernels read, under the checkpoint's names."""

    def __init__(self, config: GPTBigCodeConfig) -> None:
        n_kv_head, head_dim = config.n_kv_head, config.head_dim
        self._tied = config.tie_word_embeddings
        self._fused = (config.n_embd, *(2 * head_dim for _ in range(n_kv_head)))
        self._order: Tensor | None = None
        if not config.multi_query:  # (n_head, 3, D): all queries first, then each head's keys and values
            rows = torch.arange(3 * config.n_embd).view(n_kv_head, 3 * head_dim)
            self._order = torch.cat((rows[:, :head_dim].flatten(), rows[:, head_dim:].flatten()))

    def __call__(self, name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
        """The tensors that one of the checkpoint's becomes."""
        if ".ln_" in name:
            yield name, tensor.float()
            return
        if name in EMBEDDINGS or name == "lm_head.weight":  # a token reads one row of them, or a few
            yield f"{name}_exact", (tensor if tensor.dtype in STORED_DTYPES else tensor.float()).contiguous()
        if name == "transformer.wpe.weight" or (name == "transformer.wte.weight" and not self._tied):
            return
        fused = ".attn.c_attn." in name
        if fused and self._order is not None:
            tensor = tensor[self._order]
        sections = self._fused if fused else (len(tensor),)
        if name.endswith(".bias"):
            yield name, pad_sections(tensor, sections)
            return
        levels, scales = quantize_rows(tensor)
        yield name, pack(levels, sections)
        yield f"{name}_scale", pad_sections(scales, sections)
        if name in FINE:
            levels, scales = quantize_rows(tensor.float() - levels * scales[:, None])
            yield f"{name}_rest", pack(levels, sections)
            yield f"{name}_rest_scale", pad_sections(scales, sections)


def load_quantized(folder: Path, config: GPTBigCodeConfig, checksum: Checksum, progress: Progress | None = None) -> Held:
    """A checkpoint's packed tensors: those that were kept, if they are whole and of these very weights, or made anew.

    Raises: CheckpointError where the checkpoint cannot be read.
    """
    name = f"int8-{_digest(folder)}.safetensors"
    places = (
        folder / PACKED_FOLDER,
        cache_directory() / "int8" / hashlib.sha256(str(folder).encode()).hexdigest()[:16],
    )
    for place in places:
        if (place / name).is_file():
            kept = _read(place / name, checksum, progress)
            if kept is not None:
                return kept
    tensors = _quantize(folder, config, progress)
    for place in places:
        try:
            _write(place, name, tensors, checksum)
            return tensors | _exact(place / name, filter(_is_exact, tensors))  # lets the checkpoint go
        except (OSError, SafetensorError) as error:
            log.info("int8 weights cannot be kept in %s: %s", place, error)
    return dict(tensors)


def _quantize(folder: Path, config: GPTBigCodeConfig, progress: Progress | None) -> dict[str, Tensor]:
    with torch.device("meta"):
        model: nn.Module = GPTBigCodeForCausalLM(config)
    shapes = {our_name(name): (name, parameter.shape) for name, parameter in model.named_parameters()}
    quantizer = Quantizer(config)
    with torch.inference_mode():
        return {
            part: packed if _is_exact(part) else _in_huge_pages(packed)
            for name, tensor in read_weights(shapes, folder, config, progress)
            for part, packed in quantizer(name, tensor)
        }


def _digest(folder: Path) -> str:
    """Changes when a weight file or the config is replaced."""
    digest = hashlib.sha256(str(FORMAT).encode())
    for path in (folder / "config.json", *weight_files(folder)):
        with suppress(OSError):  # a shard that is missing: whoever reads it says so
            stat = path.stat()
            digest.update(f"{path.name}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:16]


def _read(path: Path, checksum: Checksum, progress: Progress | None) -> Held | None:
    """What was kept, in memory of our own; None where the file is damaged."""
    tensors: Held = {}
    try:
        with safe_open(path, framework="pt") as file:
            sums: dict[str, int] = json.loads(file.metadata()["checksums"])
        for n_read, (name, wanted) in enumerate(sums.items(), 1):
            if _is_exact(name):
                continue
            tensor = tensors[name] = _in_huge_pages(_mapped(path, name))
            if checksum(tensor) != wanted:
                raise ValueError(f"{name} is not what was written")
            if progress is not None:
                progress(n_read / len(sums))
        return tensors | _exact(path, filter(_is_exact, sums))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s: is damaged and made anew: %s", path, error)
        return None


def _exact(path: Path, names: Iterable[str]) -> Held:
    """What is read a row at a time: large tensors stay in the file, for what is never typed need not be in memory."""
    file = path.open("rb", buffering=0)
    n_header = int.from_bytes(file.read(8), "little")
    header = json.loads(file.read(n_header))
    held: Held = {}
    for name in names:
        start, end = header[name]["data_offsets"]
        tensor = _mapped(path, name)
        held[name] = FileRows(file, 8 + n_header + start, tensor.dtype) if end - start > IN_MEMORY_BYTES else tensor.clone()
    return held


def _mapped(path: Path, name: str) -> Tensor:
    """One tensor of the file, in a mapping of its own: a mapping lives as long as any tensor of it, with all that was read."""
    with safe_open(path, framework="pt") as file:
        tensor: Tensor = file.get_tensor(name)
    return tensor


def _write(place: Path, name: str, tensors: dict[str, Tensor], checksum: Checksum) -> None:
    """Never seen half-written; what was made of older weights goes."""
    place.mkdir(parents=True, exist_ok=True)
    metadata = {
        "format": "pt",
        "checksums": json.dumps({name: 0 if _is_exact(name) else checksum(tensor) for name, tensor in tensors.items()}),
    }
    handle, partial = tempfile.mkstemp(dir=place)
    os.close(handle)
    try:
        save_file(tensors, partial, metadata=metadata)
        os.replace(partial, place / name)
    except BaseException:
        os.unlink(partial)
        raise
    for old in place.glob("int8-*.safetensors"):
        if old.name != name:
            old.unlink(missing_ok=True)


def _is_exact(name: str) -> bool:
    return name.endswith("_exact")


def _in_huge_pages(tensor: Tensor) -> Tensor:
    """A copy whose pages are as large as the system allows, if it fills any: a pass reads all of it, token by token."""
    if tensor.nbytes < HUGE_PAGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return tensor.clone()
    size = -(-tensor.nbytes // HUGE_PAGE) * HUGE_PAGE
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # shared memory has small pages only
    with suppress(OSError):  # a kernel built without them
        memory.madvise(mmap.MADV_HUGEPAGE)
    copy = torch.frombuffer(memory, dtype=tensor.dtype, count=tensor.numel()).view(tensor.shape)
    return copy.copy_(tensor)
