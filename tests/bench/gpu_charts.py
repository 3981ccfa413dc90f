"""The three charts of a run on a GPU, from what it wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

CHARTS = ("gpu-attention.png", "gpu-decode.png", "gpu-bandwidth.png")


def draw(found: dict[str, Any], models: list[str], folder: Path) -> list[str]:
    """Draws what was measured: attention, decoding beside transformers, the share of the bandwidth. Gives the files' names."""
    machine = found["machine"]
    title = f"{machine['device']}, torch {machine['versions']['torch']}"
    for file, bars in zip(CHARTS, (_attention(found, models), _decode(found, models), _share(found, models)), strict=True):
        _draw_bars(folder / file, title, *bars)
    return list(CHARTS)


def _attention(found: dict[str, Any], models: list[str]) -> tuple[str, dict[str, dict[str, float]]]:
    """A whole prompt, transformers' native attention and FlashAttention-2."""
    groups: dict[str, dict[str, float]] = {}
    documented = found.get("documented", {"lengths": []})
    for row in documented["lengths"]:
        place, ours = f"{documented['model']}\n{row['n_tokens']}", _label(documented["attention"])
        series = {
            "native": row["native_ms"],
            "native, FlashAttention-2": row["native_flash_ms"],
            "eager here": row["eager_ms"],
            ours: row["flash_ms"],
        }
        groups[place] = {name: ms for name, ms in series.items() if not isinstance(ms, str)}
    for name in models:
        theirs = _by_length(found.get(f"{name} beside transformers", {}).get("eager"))
        for row in found.get(name, {"lengths": []})["lengths"]:
            group = groups[f"{name}\n{row['n_tokens']}"] = {_label(found[name]["attention"]): row["prefill_ms"]}
            if row["n_tokens"] in theirs:
                group["native"] = theirs[row["n_tokens"]]["prefill_ms"]
    return "prompt, ms", groups


def _decode(found: dict[str, Any], models: list[str]) -> tuple[str, dict[str, dict[str, float]]]:
    """A decoded token, here and by transformers' ways."""
    groups: dict[str, dict[str, float]] = {}
    for name in models:
        theirs = found.get(f"{name} beside transformers", {})
        theirs = {**theirs, "compiled": found.get(f"{name} beside transformers, compiled")}
        peers = {each: _by_length(rows) for each, rows in theirs.items()}
        in_int8 = _by_length(found.get(f"{name} in int8", {}).get("lengths"))
        for row in found.get(name, {"lengths": []})["lengths"]:
            group = groups[f"{name}\n{row['n_tokens']}"] = {
                "midfill": row["decode_ms"],
                "midfill, torch's operators": row["decode_operators_ms"],
                "midfill, not recorded": row["decode_unrecorded_ms"],
                "first token after a key": row["keystroke_ms"],
            }
            if row["n_tokens"] in in_int8:
                group["midfill, int8"] = in_int8[row["n_tokens"]]["decode_ms"]
            for each, rows in peers.items():
                if row["n_tokens"] in rows:
                    group[f"transformers {each}"] = rows[row["n_tokens"]]["decode_ms"]
    return "token, ms", groups


def _share(found: dict[str, Any], models: list[str]) -> tuple[str, dict[str, dict[str, float]]]:
    """What part of a decoded token is the time in which its bytes can be read at all."""
    groups = {}
    for name in models:
        for row in found.get(name, {"lengths": []})["lengths"]:
            groups[f"{name}\n{row['n_tokens']}"] = {"share of the memory's bandwidth": row["hbm_share"]}
    return "share of the limit", groups


def _label(attention: str) -> str:
    return "FlashAttention-2" if "flash" in attention else f"{attention} here"


def _by_length(rows: Any) -> dict[int, dict[str, float]]:
    """Empty where they were not to be had, and only the reason was written."""
    return {row["n_tokens"]: row for row in rows} if isinstance(rows, list) else {}


def _draw_bars(path: Path, title: str, label: str, groups: dict[str, dict[str, float]]) -> None:
    figure = Figure(figsize=(max(6.0, 1.4 * len(groups)), 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    series = list(dict.fromkeys(name for group in groups.values() for name in group))
    width = 0.8 / max(len(series), 1)
    for idx, name in enumerate(series):
        places = [place + idx * width for place, group in enumerate(groups.values()) if name in group]
        values = [group[name] for group in groups.values() if name in group]
        axes.bar_label(axes.bar(places, values, width, label=name), fmt="%.2f", fontsize=6, rotation=90, padding=2)
    axes.set_xticks([place + 0.4 - width / 2 for place in range(len(groups))], list(groups), fontsize=7)
    axes.set_ylabel(label)
    axes.margins(y=0.2)
    axes.set_title(title, fontsize=9)
    if series:
        axes.legend(fontsize=7)
    figure.savefig(path, dpi=120)
