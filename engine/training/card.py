"""The model card: what the shipped model is, what it learned from, what it is worth and what it cannot do.

Every figure comes from a file that another step of the recipe wrote; what was not measured is said not to be.
"""

from __future__ import annotations

from collections import Counter
from importlib.resources import files
from string import Template
from typing import Any

from engine.config import GPTBigCodeConfig
from engine.training.batches import BatchOptions
from engine.training.log import Cost

_WAYS = {
    "spm": "suffix, prefix, middle (SPM), as shipped",
    "model_alone": "SPM, without what stands nearby",
    "psm": "prefix, suffix, middle (PSM)",
    "prefix_only": "prefix only, left to right",
    "copier": "a mere copier: the line's rest behind the longest earlier occurrence",
}


def model_card(
    config: GPTBigCodeConfig, manifest: dict[str, Any], cost: Cost, figures: dict[str, Any] | None, samples: str = ""
) -> str:
    """The card as Markdown; `manifest` is the corpus's, `figures` what `eval` wrote, `samples` what a person saw it write."""
    train, dev = manifest["train"], manifest["dev"]
    return Template(files("engine.training").joinpath("card.md").read_text("utf-8")).substitute(
        parameters=f"{n_parameters(config) / 1e6:.1f}",
        n_layer=config.n_layer,
        n_embd=config.n_embd,
        n_head=config.n_head,
        n_positions=f"{config.n_positions:,}",
        vocab_size=f"{config.vocab_size:,}",
        n_packages=train["n_packages"],
        n_files=f"{train['n_files']:,}",
        megabytes=f"{train['n_bytes'] / 1e6:.0f}",
        held_out=", ".join(package["name"] for package in dev["packages"]),
        licences=_licences(train["packages"]),
        n_steps=f"{cost.n_steps:,}",
        n_tokens=f"{cost.n_tokens / 1e6:.1f}",
        hours=f"{cost.hours:.1f}",
        middle_weight=f"{BatchOptions().middle_weight:g}",
        figures=_figures(figures) if figures else "Not measured yet.",
        samples=f"\n## What it writes\n\n{samples}" if samples else "",
    )


def n_parameters(config: GPTBigCodeConfig) -> int:
    """Parameters of a model of this config, a tied head counted once."""
    width, kv_width = config.n_embd, 2 * config.n_kv_head * config.head_dim
    attention = (width + 1) * (width + kv_width) + (width + 1) * width
    mlp = (width + 1) * config.inner_dim + (config.inner_dim + 1) * width
    embeddings = (config.vocab_size + config.n_positions) * width
    head = 0 if config.tie_word_embeddings else config.vocab_size * width
    return embeddings + head + config.n_layer * (attention + mlp + 4 * width) + 2 * width


def _licences(packages: list[dict[str, Any]]) -> str:
    n_bytes: Counter[str] = Counter()
    for package in packages:
        n_bytes[package["licence"]] += package["bytes"]
    return "\n".join(f"| {licence} | {n / 1e6:.1f} |" for licence, n in n_bytes.most_common())


def _figures(figures: dict[str, Any]) -> str:
    kinds = list(figures["exact_match_by_kind"]["spm"])
    rows = [f"| prompt | exact | 95 % interval | {' | '.join(kinds)} |", f"|---|---:|---:|{'---:|' * len(kinds)}"]
    for way, right in figures["exact_match"].items():
        low, high = figures["exact_match_interval"][way]
        by_kind = " | ".join(f"{figures['exact_match_by_kind'][way][kind]:.1%}" for kind in kinds)
        rows.append(f"| {_WAYS[way]} | {right:.1%} | {low:.1%} to {high:.1%} | {by_kind} |")
    return (
        f"{figures['bits_per_byte']:.3f} bits per byte on the held-out packages, left to right, in windows of all positions.\n"
        f"Exact match of the rest of a line, greedy, on {figures['n_holes']:,} held-out holes of four kinds:\n\n"
        + "\n".join(rows)
        + _judged(figures)
    )


def _judged(figures: dict[str, Any]) -> str:
    """What else was measured; figures of an evaluation that had no problems or no gate lack some."""
    lines = []
    if figures.get("humaneval_single_line") is not None:
        lines.append(f"HumanEval-infilling by execution: {figures['humaneval_single_line']:.1%} of single lines")
        if figures.get("humaneval_random_span") is not None:
            lines[-1] += f", {figures['humaneval_random_span']:.1%} of random spans"
        lines[-1] += "."
    if figures.get("precision_at_threshold") is not None:
        precision, coverage = figures["precision_at_threshold"], figures["coverage_at_threshold"]
        lines.append(f"Behind the gate (`gate.json`), {coverage:.1%} of the lines are shown, and {precision:.1%} of those are")
        lines.append("exactly right.")
    if (error := figures.get("calibration_error")) is not None:
        lines.append(f"The probability that the model gives its own line is off by {error:.3f} on average")
        lines.append("(expected calibration error, ten bins).\n\n![Reliability](reliability.png)")
    return "\n\n" + "\n".join(lines) if lines else ""
