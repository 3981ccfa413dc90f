"""How sure the model must have been of what is shown unasked.

Two thresholds, on the least likely token and on the mean over all, fitted on held-out code for each model and kept
beside it; the user may set his own. A block is shown as far as it is sure, line by line.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from lsp_server.suggestions import Completion


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Log-probabilities below which nothing is shown."""

    minimum: float
    mean: float


@dataclass(frozen=True, slots=True)
class Sureness:
    """What is sure of a completion, and where it was not, in numbers."""

    completion: Completion
    detail: str = ""


def sure_part(completion: Completion, thresholds: Thresholds | None) -> Sureness:
    """Cuts a completion before its first line with a token that is too unlikely, or at which the mean becomes too low.

    A completion whose log-probabilities are not known is taken as sure.
    """
    text = completion.text
    if thresholds is None or not completion.logprobs:
        return Sureness(completion)
    total, n_tokens, kept = 0.0, 0, 0
    tokens = list(zip(completion.ends, completion.logprobs, strict=True))
    for n_sure, line_end in enumerate(_line_ends(text)):
        line = [logprob for end, logprob in tokens if kept < end <= line_end]
        total, n_tokens = total + sum(line), n_tokens + len(line)
        lowest, mean = min(line, default=0.0), total / max(1, n_tokens)
        if lowest < thresholds.minimum or mean < thresholds.mean:
            detail = (
                f"lowest log-probability {lowest:.2f}, {thresholds.minimum:.2f} allowed; mean {mean:.2f},"
                f" {thresholds.mean:.2f} allowed; {n_sure} lines before it were sure"
            )
            return Sureness(replace(completion, text=text[:kept]), detail)
        kept = line_end
    return Sureness(completion)


def _line_ends(text: str) -> list[int]:
    """Gives where each line with something on it ends, blank ones before it included; the last is the text's end."""
    ends, offset = [], 0
    for line in text.split("\n"):
        offset += len(line) + 1
        if line.strip():
            ends.append(min(offset - 1, len(text)))
    return [*ends[:-1], len(text)]
