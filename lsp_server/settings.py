"""Every setting, with its unit, default, range and meaning; and who may set it.

Settings come, later ones winning, from the user's midfill.toml, the command line, initializationOptions and
workspace/configuration. The last two reach us from an editor that mixes in the workspace's own files, so what
chooses the engine, the model and the machine's resources is not taken from them: a repository must not redirect
code. A bad value is named and the value before it kept.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any


class SettingsError(Exception):
    """A settings file that cannot be used at all; names the file and what is wrong with it."""


def _setting(default: Any, about: str, **metadata: Any) -> Any:
    return field(default=default, metadata={"about": about, **metadata})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the user chose; one name for each setting in every editor, file and option."""

    enabled: bool = _setting(True, "whether anything is suggested")
    deadline_ms: int = _setting(1000, "after which an answer is what there is by then", unit="ms", range=(20, 60_000))
    max_tokens: int = _setting(64, "longest suggestion", unit="tokens", range=(1, 512))
    max_chars: int = _setting(400, "longest suggestion", unit="characters", range=(1, 10_000))
    max_lines: int = _setting(20, "longest suggestion; 1: never more than the cursor's line", unit="lines", range=(1, 80))
    show_after_ms: int = _setting(
        0, "rest without a key after which a new suggestion is shown; it is computed at once", unit="ms", range=(0, 10_000)
    )
    enabled_languages: tuple[str, ...] = _setting((), "language ids, of which alone something is suggested in; none: all")
    disabled_languages: tuple[str, ...] = _setting((), "language ids in which nothing is suggested")
    disabled_globs: tuple[str, ...] = _setting((), "files in which nothing is suggested, as in .gitignore")
    private_globs: tuple[str, ...] = _setting((), "more files that are never read, as in .gitignore", adds=True)
    gate: bool = _setting(True, "whether what the model is not sure of is kept back unless asked for")
    gate_min_logprob: float | None = _setting(
        None, "log-probability that no token may be below; none: as fitted for the model", range=(-100, 0)
    )
    gate_mean_logprob: float | None = _setting(
        None, "log-probability that the mean may not be below; none: as fitted for the model", range=(-100, 0)
    )
    debounce_ms: int | None = _setting(
        None,
        "wait for the typing to rest before the model is asked; none: by your rhythm, where the editor does not wait itself",
        unit="ms",
        range=(0, 5000),
    )
    completion_fallback: str = _setting(
        "auto",
        "whether suggestions come in the completion menu; auto: where the editor has no ghost text",
        choices=("auto", "off", "on"),
    )
    comments: str = _setting("on", "whether comments are completed", choices=("off", "on-demand", "on"))
    strings: str = _setting("on", "whether strings are completed", choices=("off", "on-demand", "on"))
    alternatives: int = _setting(3, "how many suggestions are offered where one is asked for by hand", range=(1, 8))
    compute_ahead: bool = _setting(True, "whether what follows a suggestion is computed while that is shown")
    prefetch: bool = _setting(True, "whether prompts are prefilled while nobody waits")

    engine: str = _setting(
        "resident", "where the model runs", choices=("resident", "child", "in-process", "scripted"), user_only=True
    )
    model: str = _setting("shipped", "a folder, a hub name already downloaded, or `shipped`", user_only=True)
    script: str | None = _setting(None, "JSON file of written completions for the scripted engine", user_only=True)
    device: str = _setting("auto", "where the weights live: auto, cpu, cuda, cuda:N or mps", user_only=True)
    dtype: str = _setting("auto", "what the weights are held in: auto, float32, float16, bfloat16 or int8", user_only=True)
    attention: str = _setting("auto", "which attention runs: auto, eager, sdpa, flash_attn or torch_flash", user_only=True)
    n_threads: int | None = _setting(None, "CPU threads; none: one per physical core", range=(1, 1024), user_only=True)
    budget_mb: int | None = _setting(
        None, "memory for caches; none: from free memory", unit="MB", range=(1, 1 << 20), user_only=True
    )
    background_tokens_per_min: int | None = _setting(
        None,
        "limit on what is computed while nobody waits, for a battery's sake; none: as much as is useful",
        unit="tokens",
        range=(0, 1 << 30),
        user_only=True,
    )
    idle_exit_s: float = _setting(
        1800.0,
        "time after the last editor window has closed, until the engine ends",
        unit="s",
        range=(1, 1 << 20),
        user_only=True,
    )


@dataclass(frozen=True, slots=True)
class Checked:
    """Settings with the good values taken, and a line for each value that was not."""

    settings: Settings
    problems: tuple[str, ...] = ()


def apply(settings: Settings, values: object, *, by_user: bool) -> Checked:
    """Lays values over settings, field by field; nothing in them can fail.

    `by_user` says that they come from the user's own file or command line, which alone may choose the engine.
    """
    if values is None:
        return Checked(settings)
    if not isinstance(values, Mapping):
        return Checked(settings, (f"settings must be a table of names and values, got {_kind(values)}",))
    known = {each.name: each for each in fields(Settings)}
    taken: dict[str, Any] = {}
    problems = []
    for name, value in values.items():
        if name not in known:
            problems.append(f"{name!s:.80}: unknown")
        elif not by_user and known[name].metadata.get("user_only"):
            problems.append(f"{name}: can't be set from a workspace, only in your own midfill.toml or on the command line")
        elif problem := _problem(known[name].type, known[name].metadata, value):
            problems.append(f"{name}: {problem}; keeping {getattr(settings, name)!r}")
        else:
            taken[name] = _taken(str(known[name].type), value)
            if known[name].metadata.get("adds"):  # nobody takes away what another made private
                taken[name] = tuple(dict.fromkeys((*getattr(settings, name), *taken[name])))
    return Checked(replace(settings, **taken), tuple(problems))


def read_file(path: Path) -> Checked:
    """Reads the user's settings file; a missing one is no settings.

    Raises: SettingsError where the file is there but is not readable TOML.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Checked(Settings())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path} can't be read, defaults are used: {error}") from error
    return apply(Settings(), values, by_user=True)


def _taken(annotation: str, value: Any) -> Any:
    if annotation == "tuple[str, ...]":
        return tuple(value)
    return float(value) if annotation == "float" else value


def _problem(annotation: Any, metadata: Mapping[str, Any], value: object) -> str | None:
    """Says what was got and what is allowed; None where the value is good. Annotations are strings in this module."""
    kind, _, optional = str(annotation).partition(" | ")
    if value is None and optional:
        return None
    if kind == "tuple[str, ...]":
        is_list = isinstance(value, list | tuple) and all(isinstance(each, str) for each in value)
        return None if is_list else f"must be a list of texts, got {_kind(value)}"
    wanted: dict[str, tuple[type, ...]] = {"bool": (bool,), "int": (int,), "float": (int, float), "str": (str,)}
    if not isinstance(value, wanted[kind]) or (isinstance(value, bool) and kind != "bool"):
        return f"must be {kind}, got {_kind(value)}"
    if (choices := metadata.get("choices")) and value not in choices:
        return f"must be one of {', '.join(choices)}, got {value!r:.80}"
    if (allowed := metadata.get("range")) and not allowed[0] <= value <= allowed[1]:
        return f"must be from {allowed[0]} to {allowed[1]} {metadata.get('unit', '')}".rstrip() + f", got {value!r:.40}"
    return None


def _kind(value: object) -> str:
    return "null" if value is None else f"{type(value).__name__} {value!r:.80}"
