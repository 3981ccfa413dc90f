"""What each part of the judgement earns: the trigger, each filter, the guard and the gate, each left out in turn.

Reads what `make eval` had the model write for held-out holes (build/bench/answers.jsonl.gz) and writes
build/bench/judgement.json and, as a table, build/bench/judgement.md. A hole counts as right where exactly its text is shown;
of what is shown, the characters before the first wrong one are right and the others wrong.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest.mock import patch

from engine.matching import n_common
from engine.model_files import read_gate
from engine.training.evaluate import ANSWERS
from engine.training.holes import BLOCK
from lsp_server import postprocess
from lsp_server.closers import Draft
from lsp_server.confidence import Thresholds, sure_part
from lsp_server.place import Place
from lsp_server.prompt import Prompt
from lsp_server.suggestions import Completion
from lsp_server.trigger import Mode, decide

LIMITS = postprocess.Limits(overwrites=False)


@dataclass(frozen=True, slots=True)
class Written:
    """What a model wrote for a hole, the hole's own text, and its place."""

    kind: str
    truth: str
    completion: Completion
    place: Place
    is_wanted: bool  # by the trigger


@dataclass(frozen=True, slots=True)
class Figures:
    """What a judgement made of all holes; shares of holes, and characters per hole."""

    shown: float
    precision: float
    right: float
    characters_right: float
    characters_wrong: float


def read(path: Path) -> list[Written]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [_written(**json.loads(line)) for line in lines]


def _written(prefix: str, middle: str, suffix: str, kind: str, text: str, logprobs: list[float], ends: list[int]) -> Written:
    place = Place.at("python", prefix, suffix)
    completion = Completion("", Prompt(prefix, suffix), text, tuple(logprobs), tuple(ends))
    return Written(kind, middle.rstrip(), completion, place, decide(place, invoked=False) is not Mode.NONE)


def judged(all_written: list[Written], gate: Thresholds | None, *, has_trigger: bool = True) -> Figures:
    shown = [_shown(each, gate) if each.is_wanted or not has_trigger else "" for each in all_written]
    pairs = [(text.rstrip(), each.truth) for text, each in zip(shown, all_written, strict=True)]
    n_shown = sum(bool(text) for text, _ in pairs)
    n_right = sum(text == truth for text, truth in pairs if text)
    right = sum(n_common(*pair) for pair in pairs)
    n = max(len(pairs), 1)
    characters = sum(len(text) for text, _ in pairs)
    return Figures(
        shown=round(n_shown / n, 4),
        precision=round(n_right / max(n_shown, 1), 4),
        right=round(n_right / n, 4),
        characters_right=round(right / n, 3),
        characters_wrong=round((characters - right) / n, 3),
    )


def _shown(written: Written, gate: Thresholds | None) -> str:
    text = sure_part(written.completion, gate).completion.text
    outcome = postprocess.postprocess(text, written.place, Mode.BLOCK if written.kind == BLOCK else Mode.LINE, LIMITS)
    return outcome.text if outcome else ""


def without(name: str) -> AbstractContextManager[object]:
    """Leaves out a filter, in both modes."""
    kept = {mode: tuple(each for each in filters if each.__name__ != name) for mode, filters in postprocess.FILTERS.items()}
    return patch.dict(postprocess.FILTERS, kept)


def rows(all_written: list[Written], gate: Thresholds | None) -> Iterator[tuple[str, Figures]]:
    """The whole judgement, and it without each part; the gate hides what the others do, so each is left out beside it."""
    yield "everything", judged(all_written, gate)
    if gate:
        yield "without the gate", judged(all_written, None)
    yield "without the trigger", judged(all_written, None, has_trigger=False)
    keep: Callable[[Draft, Place, Draft], Draft] = lambda draft, _place, _written: draft  # noqa: E731
    with patch.object(postprocess, "guard", keep):
        yield "without the guard", judged(all_written, None)
    names = {each.__name__: None for filters in postprocess.FILTERS.values() for each in filters}
    for name in names:
        with without(name):
            yield f"without {name}", judged(all_written, None)
    nothing = dict.fromkeys(postprocess.FILTERS, ())
    with patch.dict(postprocess.FILTERS, nothing), patch.object(postprocess, "guard", keep):
        yield "what the model wrote", judged(all_written, None, has_trigger=False)


def table(found: dict[str, Figures]) -> str:
    lines = [
        "| without the gate, where not everything | shown | precision | right | characters right | wrong |",
        "|---|---|---|---|---|---|",
    ]
    for name, figures in found.items():
        shares = (f"{share:.1%}" for share in (figures.shown, figures.precision, figures.right))
        characters = (f"{figures.characters_right:.2f}", f"{figures.characters_wrong:.2f}")
        lines.append("| " + " | ".join((name, *shares, *characters)) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("build/bench"))
    parser.add_argument("--model", type=Path, default=Path("engine/models"))
    args = parser.parse_args()
    fitted = read_gate(args.model)
    gate = Thresholds(fitted.min_logprob, fitted.mean_logprob) if fitted else None
    all_written = read(args.folder / ANSWERS)
    kinds = {
        "lines": [each for each in all_written if each.kind != BLOCK],
        "blocks": [each for each in all_written if each.kind == BLOCK],
    }
    found = {kind: dict(rows(written, gate)) for kind, written in kinds.items() if written}
    report = {kind: {name: asdict(figures) for name, figures in of_kind.items()} for kind, of_kind in found.items()}
    (args.folder / "judgement.json").write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    text = "\n".join(f"{kind} ({len(kinds[kind])})\n\n{table(of_kind)}" for kind, of_kind in found.items())
    (args.folder / "judgement.md").write_text(text, "utf-8")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
