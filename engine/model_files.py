"""Finding a model's folder, and telling one folder from another without reading what is in it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from platformdirs import user_cache_path

from engine.api import CheckpointError, Gate

SHIPPED_MODEL = Path(__file__).parent / "models"
GATE = "gate.json"
PACKED_FOLDER = ".midfill"  # for what is kept beside a model's weights; a folder, for the model's digest covers the files
HUB_FILES = ["*.json", "*.safetensors", "pytorch_model*.bin", "*.txt"]  # what a model folder needs, weights once


def model_folder(name: str) -> Path:
    """The folder of a model: the shipped one, a path, or a hub name that was downloaded before.

    Raises: CheckpointError where there is none; nothing is ever downloaded here.
    """
    if name == "shipped":
        return SHIPPED_MODEL
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder.resolve()
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError) as error:
        raise CheckpointError(
            f"model {name!r} is neither a folder nor a downloaded hub model; `midfill models pull {name}` downloads it"
        ) from error


def cache_directory() -> Path:
    """The user's directory for what can be made anew: compiled kernels, packed weights of folders that cannot be written."""
    return user_cache_path("midfill")


def n_used_ids(folder: Path) -> int | None:
    """How many ids the folder's tokenizer gives out; embeddings are often padded beyond them. None without a tokenizer.json.

    Raises: CheckpointError where the file is no tokenizer.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text("utf-8"))
        ids = [*values["model"]["vocab"].values(), *(token["id"] for token in values["added_tokens"])]
        return 1 + max(int(token_id) for token_id in ids)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: cannot be read as a tokenizer: {error!r}") from error


def write_gate(gate: Gate, folder: Path) -> None:
    """Writes what `read_gate` reads."""
    (folder / GATE).write_text(json.dumps(asdict(gate), indent=1) + "\n", "utf-8")


def read_gate(folder: Path) -> Gate | None:
    """Reads how sure the model must be of what is shown unasked; None where the folder does not say.

    Raises: CheckpointError where the file says something else.
    """
    path = folder / GATE
    try:
        values = json.loads(path.read_text("utf-8"))
        thresholds = {name: float(values[name]) for name in ("min_logprob", "mean_logprob")}
        measured = {name: float(values[name]) for name in ("precision", "coverage") if values.get(name) is not None}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: cannot be read as a gate of min_logprob and mean_logprob: {error!r}") from error
    return Gate(**thresholds, **measured)


def folder_digest(folder: Path) -> str:
    """Hex digest that changes when a file in the folder is replaced.

    It covers names, sizes and times, not contents: reading 15 GB to name a socket would cost what the socket saves.
    """
    digest = hashlib.sha256(str(folder).encode())
    for path in sorted(folder.iterdir()):
        if path.is_file():
            stat = path.stat()
            digest.update(f"{path.name}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
    return digest.hexdigest()
