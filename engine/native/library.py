"""Building and loading the C library of int8 kernels: plain C, no headers but the compiler's own.

It is compiled once per machine and version into the user's cache, under a hash of sources, flags and compiler.
"""

from __future__ import annotations

import ctypes
import hashlib
import io
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from engine.model_files import cache_directory

log = logging.getLogger(__name__)

SOURCES = Path(__file__).parent
COMPILERS = ("cc", "gcc", "clang")
COMPILE_TIMEOUT_S = 120
# No product may be fused with a sum but by name: the instruction sets would disagree.
FLAGS = ("-O3", "-std=c11", "-fPIC", "-ffp-contract=off", "-fvisibility=hidden", "-D_GNU_SOURCE")
PLAIN = ("-DMIDFILL_PLAIN",)
STORED_DTYPES = (torch.float32, torch.float16, torch.bfloat16)  # enum stored_kind of model.h
OTHER_SOURCES = ("model.c", "attention.c", "exact.c", "open.c", "pool.c")
VARIANTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "x86_64": (PLAIN, ("-mavx2", "-mfma"), ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512vnni", "-mfma")),
    "aarch64": (PLAIN, ()),
}
MACHINES = {"AMD64": "x86_64", "arm64": "aarch64"}  # other names of the same


class NoKernels(Exception):  # a reason to take another dtype, not a failure of the engine
    """The library cannot be had on this machine; the message says why."""


@dataclass(frozen=True, slots=True)
class FileRows:
    """A tensor that stays in its file, from an offset on: it takes no memory but the file's pages in the system's cache."""

    file: io.FileIO
    offset: int
    dtype: torch.dtype


class Linear(ctypes.Structure):
    """`struct linear` of kernels.h."""

    _fields_ = (
        ("weights", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("n_in", ctypes.c_int),
        ("n_out", ctypes.c_int),
        ("rest", ctypes.c_void_p),
    )


class Norm(ctypes.Structure):
    """`struct midfill_norm` of model.h."""

    _fields_ = (("gamma", ctypes.c_void_p), ("beta", ctypes.c_void_p))


class Block(ctypes.Structure):
    """`struct midfill_block` of model.h."""

    _fields_ = (
        ("ln_1", Norm),
        ("ln_2", Norm),
        ("c_attn", Linear),
        ("attn_proj", Linear),
        ("c_fc", Linear),
        ("mlp_proj", Linear),
    )


class Stored(ctypes.Structure):
    """`struct stored` of model.h."""

    _fields_ = (("rows", ctypes.c_void_p), ("offset", ctypes.c_long), ("file", ctypes.c_int), ("kind", ctypes.c_int))

    @classmethod
    def of(cls, weights: Tensor | FileRows) -> Self:
        """The weights must stay where they are."""
        kind = STORED_DTYPES.index(weights.dtype)
        if isinstance(weights, Tensor):
            return cls(weights.data_ptr(), 0, -1, kind)
        return cls(None, weights.offset, weights.file.fileno(), kind)


class Exact(ctypes.Structure):
    """`struct midfill_exact` of model.h."""

    _fields_ = (("weights", Stored), ("widest_scale", ctypes.c_float))


class Embeddings(ctypes.Structure):
    """`struct midfill_embeddings` of model.h."""

    _fields_ = (
        ("tokens", Stored),
        ("positions", Stored),
        *((name, ctypes.c_int) for name in ("n_vocab", "n_positions", "n_embd")),
    )


class Shape(ctypes.Structure):
    """`struct midfill_shape` of model.h."""

    _fields_ = (
        *((name, ctypes.c_int) for name in ("n_layer", "n_embd", "n_head", "n_kv_head", "head_dim", "n_inner", "n_vocab")),
        ("activation", ctypes.c_int),
        ("n_threads", ctypes.c_int),
        ("eps", ctypes.c_float),
        ("attention_scale", ctypes.c_float),
    )


def load_library(cache: Path | None = None, compilers: Sequence[str] = COMPILERS) -> ctypes.CDLL:
    """The library, compiled into `cache` (None: the user's) where it is not there yet.

    Raises: NoKernels where this machine is of another kind, or has no compiler that works.
    """
    machine = MACHINES.get(platform.machine(), platform.machine())
    if machine not in VARIANTS or os.name != "posix":
        raise NoKernels(f"there are no int8 kernels for {platform.system()} on {machine}")
    compiler = next((found for name in compilers if (found := shutil.which(name))), None)
    if compiler is None:
        raise NoKernels(f"no C compiler ({', '.join(compilers)}) is installed")
    folder = cache_directory() / "native" if cache is None else cache
    path = folder / f"libmidfill-{_digest(compiler, machine)}.so"
    if not path.is_file():
        _compile(compiler, machine, path)
    try:
        return _declared(ctypes.CDLL(str(path)))
    except OSError as error:
        raise NoKernels(f"{path} cannot be loaded: {error}") from error


def variants(library: ctypes.CDLL) -> list[str]:
    """The instruction sets that this machine has kernels for, the best first."""
    names: bytes = library.midfill_variants()
    return names.decode().split()


def _digest(compiler: str, machine: str) -> str:
    digest = hashlib.sha256(repr((FLAGS, VARIANTS[machine])).encode())
    digest.update(_run([compiler, "--version"]).encode())
    for path in sorted((*SOURCES.glob("*.c"), *SOURCES.glob("*.h"))):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _compile(compiler: str, machine: str, path: Path) -> None:
    """Puts the library at the path, whole or not at all; several processes may do it at once."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            units = [*(("kernels.c", flags) for flags in VARIANTS[machine]), *((source, ()) for source in OTHER_SOURCES)]
            objects = [f"{folder}/{idx}.o" for idx in range(len(units))]
            commands = [
                [compiler, *FLAGS, *flags, "-c", str(SOURCES / source), "-o", target]
                for (source, flags), target in zip(units, objects, strict=True)
            ]
            with ThreadPoolExecutor() as threads:
                list(threads.map(_run, commands))
            _run([compiler, "-shared", "-o", f"{folder}/library", *objects, "-lpthread", "-lm"])
            os.replace(f"{folder}/library", path)
    except OSError as error:
        raise NoKernels(f"the int8 kernels cannot be compiled into {path.parent}: {error}") from error
    log.info("compiled the int8 kernels with %s into %s", compiler, path)


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=COMPILE_TIMEOUT_S,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        raise NoKernels(f"{' '.join(command)} failed: {error.stderr.strip()[-1000:]}") from error
    except subprocess.TimeoutExpired as error:
        raise NoKernels(f"{' '.join(command)} took more than {COMPILE_TIMEOUT_S} s") from error
    return done.stdout


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    """With the types of model.h, which ctypes cannot read."""
    pointer, integer, long = ctypes.c_void_p, ctypes.c_int, ctypes.c_long
    library.midfill_variants.restype = ctypes.c_char_p
    library.midfill_open.restype = pointer
    library.midfill_open.argtypes = (pointer, pointer, pointer, pointer, pointer, ctypes.c_char_p)
    library.midfill_close.restype = None
    library.midfill_close.argtypes = (pointer,)
    library.midfill_embed.argtypes = (pointer, pointer, integer, integer, pointer)
    library.midfill_layers.argtypes = (pointer, pointer, integer, pointer, long, long, integer, integer, integer)
    library.midfill_head.argtypes = (pointer, pointer, integer, pointer)
    library.midfill_linear.argtypes = (pointer, pointer, pointer, integer, pointer)
    library.midfill_read_speed.restype = ctypes.c_double
    library.midfill_read_speed.argtypes = (pointer, pointer, long)
    library.midfill_checksum.restype = ctypes.c_uint64
    library.midfill_checksum.argtypes = (pointer, long)
    return library
