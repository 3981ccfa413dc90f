"""`python -m engine.training`: the steps of the recipe as commands, everything they write under one folder."""

from __future__ import annotations

import json
import logging
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from engine.config import GPTBigCodeConfig
from engine.heads import GPTBigCodeForCausalLM
from engine.model_files import read_gate, write_gate
from engine.tokenizer import Tokenizer
from engine.training.batches import Batches
from engine.training.bits import bits_per_byte, windows
from engine.training.completer import Limits
from engine.training.corpus import FITTED_ON, CorpusOptions, build_corpus
from engine.training.evaluate import ANSWERS, Matches, answer_holes, share_solved, write_answers
from engine.training.export import export, export_card
from engine.training.fitting import fit_recall, nats_per_token, observe_all
from engine.training.heap import keep_heap
from engine.training.holes import held_out_blocks, held_out_holes, read_holes
from engine.training.humaneval import HUMANEVAL, read_problems
from engine.training.judgement import RELIABILITY, Judged, draw_reliability, fit_gate
from engine.training.log import Entry
from engine.training.packed import PackedAttention
from engine.training.recipe import N_VOCAB, recipe
from engine.training.schedule import Schedule
from engine.training.texts import Texts
from engine.training.train import STATE, Data, Run, Trainer, branch, only_one, train
from engine.training.vocabulary import sample_texts, train_tokenizer

logger = logging.getLogger(__name__)
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

Work = Annotated[Path, typer.Option(help="Folder of everything the recipe reads back: corpus, tokenizer, runs.")]
Workers = Annotated[int, typer.Option(help="Processes, of one thread each.")]
Size = Annotated[str, typer.Option(help="cpu (8M parameters) or gpu (30M).")]

HEADLINES = ("exact_match", "bits_per_byte", "humaneval_single_line", "precision_at_threshold", "coverage_at_threshold")
_TOKENIZER_BYTES = 40_000_000
_BLOCK_TOKENS = 96
_QUICK_BYTES = 150_000  # of held-out text, scored at each checkpoint


@app.callback()
def start() -> None:
    """Makes the small GPTBigCode model that ships with midfill."""
    handler = RichHandler(console=Console(stderr=True), show_path=False)
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[handler])


@app.command()
def corpus(
    sources: Annotated[list[Path], typer.Argument(help="Wheels, sdists, or folders of them.", exists=True)],
    benchmark: Annotated[list[Path], typer.Option(help="Gzipped JSON lines that must not be trained on.", exists=True)],
    work: Work = Path(".training"),
    package_bytes: Annotated[int, typer.Option(help="Most bytes taken from one package.")] = 8_000_000,
) -> None:
    """Filters packages into training and held-out text, with a manifest."""
    options = CorpusOptions(tuple(sources), tuple(benchmark), package_bytes=package_bytes)
    for name, half in build_corpus(options, work / "corpus").items():
        logger.info("%s: %d packages, %d files, %d bytes", name, half.n_packages, half.n_files, half.n_bytes)


@app.command()
def tokenizer(work: Work = Path(".training"), seed: int = 0) -> None:
    """Trains the tokenizer on a sample of the corpus."""
    sample = sample_texts(_texts(work, "train"), _TOKENIZER_BYTES, seed)
    (work / "tokenizer").mkdir(exist_ok=True)
    train_tokenizer(sample, N_VOCAB).save(str(work / "tokenizer" / "tokenizer.json"))


@app.command("train")
def train_command(
    work: Work = Path(".training"),
    size: Size = "cpu",
    last_step: Annotated[int | None, typer.Option(help="Stop there; without it, when interrupted.")] = None,
    decay_steps: Annotated[int, typer.Option(help="Branch a model to ship: decay the stable run's checkpoint.")] = 0,
    seed: int = 0,
    n_threads: Annotated[int | None, typer.Option(help="Without it, torch's own choice.")] = None,
) -> None:
    """Trains, or goes on from the last checkpoint. SIGINT and SIGTERM leave a checkpoint; SIGSTOP and SIGCONT pause."""
    keep_heap()
    if n_threads is not None:
        torch.set_num_threads(n_threads)
    chosen = recipe(size)
    chosen = replace(chosen, batch=replace(chosen.batch, seed=seed))
    trainer = Trainer(chosen, seed)
    run = Run(work / "runs" / size, Schedule(chosen.warmup_steps), last_step)
    if (run.folder / STATE).exists():
        trainer.load(run.folder / STATE)
    if decay_steps:
        schedule = Schedule(chosen.warmup_steps, trainer.step, decay_steps)
        branched = Run(work / "runs" / f"{size}-decay", schedule, trainer.step + decay_steps)
        branch(run.folder, branched.folder)
        run = branched
    logger.info("%s from step %d, %d threads, %s", run.folder, trainer.step, torch.get_num_threads(), chosen.dtype)
    encoder = Tokenizer.from_pretrained(work / "tokenizer")
    held_out = windows(_texts(work, "dev"), encoder, chosen.config.n_positions, _QUICK_BYTES)
    data = Data(Batches(_texts(work, "train"), encoder, chosen.batch), held_out)
    stopped: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _frame: stopped.append(number))
    with _progress() as progress:
        bar = progress.add_task("", total=run.last_step, completed=trainer.step)

        def show(entry: Entry) -> None:
            text = f"loss {entry.loss:.3f}, {entry.tokens_per_s:.0f} tokens/s"
            progress.update(bar, completed=entry.step, description=text)

        with only_one(run.folder):
            train(trainer, data, run, lambda: bool(stopped), show)


@app.command("export")
def export_command(
    work: Work = Path(".training"),
    size: Size = "cpu",
    decayed: Annotated[bool, typer.Option(help="The last decay's weights, or the stable run's.")] = True,
    out: Annotated[Path, typer.Option(help="The model folder to write.")] = Path("engine/models"),
    figures: Annotated[Path, typer.Option(help="What `eval` wrote, for the card.")] = Path("build/bench/model.json"),
) -> None:
    """Writes the trained weights, with their card, as a model folder that midfill and transformers load."""
    run, config = work / "runs" / (f"{size}-decay" if decayed else size), recipe(size).config
    export(run, config, work / "tokenizer" / "tokenizer.json", out)
    export_card(run, config, work / "corpus" / "manifest.json", figures, out)
    logger.info("%s written to %s", run, out)


@app.command("fit")
def fit_command(
    model: Annotated[Path, typer.Argument(help="A model folder, which gets recall.json and gate.json.")] = Path(
        "engine/models"
    ),
    work: Work = Path(".training"),
    n_holes: Annotated[int, typer.Option(help="Held-out holes to fit on.")] = 1600,
    n_workers: Workers = 2,
    seed: int = 1,
) -> None:
    """Fits what is mixed into a model's own probabilities, and how sure it must be, on half of the held-out packages."""
    holes = held_out_holes(_held_out(work, fitted=True), n_holes, seed)
    limits = Limits()
    with _progress() as progress:
        bar = progress.add_task("recall", total=len(holes))
        observed = observe_all(holes, model, limits.n_context, n_workers, partial(progress.advance, bar))
        weights = fit_recall(observed)
        weights.save(model)
        bar = progress.add_task("gate", total=len(holes))
        answers = answer_holes(holes, model, limits, partial(progress.advance, bar), n_workers=n_workers, ways=("spm",))
    gate = fit_gate(Judged.of(answers["spm"], Matches.of(holes, answers).right["spm"]))
    write_gate(gate, model)
    alone = -sum(one.logprob for one in observed) / len(observed)
    logger.info("nats per token of a middle: %.3f alone, %.3f mixed", alone, nats_per_token(observed, weights))
    logger.info("gate: %s", gate)


@app.command("eval")
def eval_command(
    model: Annotated[Path, typer.Argument(help="A model folder.")] = Path("engine/models"),
    work: Work = Path(".training"),
    out: Annotated[Path, typer.Option(help="The JSON file to write; the picture goes beside it.")] = Path(
        "build/bench/model.json"
    ),
    holes: Annotated[Path | None, typer.Option(help="Gzipped JSON lines of prefix, middle, suffix, kind.")] = None,
    n_holes: Annotated[int, typer.Option(help="Held-out holes to draw where no file is given.")] = 4000,
    n_blocks: Annotated[int, typer.Option(help="Held-out blocks to have written, for who judges what is shown of them.")] = 400,
    n_context: Annotated[int, typer.Option(help="Tokens of prompt and completion together.")] = 2048,
    problems: Annotated[Path, typer.Option(help="Folder of HumanEval-infilling.")] = Path("../shared/data"),
    n_workers: Workers = 2,
    seed: int = 0,
) -> None:
    """Scores a model folder on held-out code that nothing was fitted on."""
    keep_heap()
    chosen = read_holes(holes) if holes else held_out_holes(_held_out(work, fitted=False), n_holes, seed)
    summary: dict[str, object] = {}
    with _progress() as progress:
        bar = progress.add_task("holes", total=len(chosen))
        done = partial(progress.advance, bar)
        answers = answer_holes(chosen, model, Limits(n_context=n_context), done, n_workers=n_workers)
        matches = Matches.of(chosen, answers)
        summary |= matches.summary() | _judgement(Judged.of(answers["spm"], matches.right["spm"]), model, out.parent)
        blocks = [] if holes else held_out_blocks(_held_out(work, fitted=False), n_blocks, seed)
        bar = progress.add_task("blocks", total=len(blocks))
        limits = Limits(n_context=n_context, n_new=_BLOCK_TOKENS, one_line=False)
        done = partial(progress.advance, bar)
        written = answer_holes(blocks, model, limits, done, n_workers=n_workers, ways=("spm",))
        write_answers([*chosen, *blocks], [*answers["spm"], *written["spm"]], out.parent / ANSWERS)
        if (work / "corpus" / "dev.txt").exists():
            summary["bits_per_byte"] = round(_bits_per_byte(model, _texts(work, "dev")), 4)
        for name, file in HUMANEVAL.items():
            if (problems / file).exists():
                task = read_problems(problems / file)
                bar = progress.add_task(name, total=len(task))
                done = partial(progress.advance, bar)
                one_line = name == "humaneval_single_line"
                summary[name] = round(share_solved(task, model, one_line=one_line, n_workers=n_workers, on_done=done), 4)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(summary, indent=2) + "\n", "utf-8")
    logger.info("%s", json.dumps({name: summary.get(name) for name in HEADLINES}))


def _judgement(judged: Judged, model: Path, folder: Path) -> dict[str, object]:
    gate = read_gate(model)
    precision, coverage = judged.at(gate) if gate else (None, None)
    draw_reliability(judged, folder / RELIABILITY)
    return {
        "precision_at_threshold": precision and round(precision, 4),
        "coverage_at_threshold": coverage and round(coverage, 4),
        "calibration_error": round(judged.calibration_error(), 4),
    }


def _bits_per_byte(model: Path, held_out: Texts) -> float:
    config = GPTBigCodeConfig.from_pretrained(model)
    scored = GPTBigCodeForCausalLM.from_pretrained(model, dtype=torch.float32)
    scored.transformer.attention = PackedAttention(config)
    scored = scored.to(torch.bfloat16)  # three times as fast, and alike to four digits
    return bits_per_byte(scored, windows(held_out, Tokenizer.from_pretrained(model), config.n_positions))


def _held_out(work: Path, *, fitted: bool) -> list[str]:
    """The files of the held-out packages that weights and thresholds are fitted on, or of those that they are judged on."""
    manifest = json.loads((work / "corpus" / "manifest.json").read_text("utf-8"))
    files = [(package["name"], package["files"]) for package in manifest["dev"]["packages"]]
    names = [name for name, n_files in files for _ in range(n_files)]
    texts = _texts(work, "dev")
    return [texts[idx] for idx, name in enumerate(names) if (name in FITTED_ON) is fitted]


def _texts(work: Path, half: str) -> Texts:
    path = work / "corpus" / half
    if not path.with_suffix(".txt").exists():
        raise typer.BadParameter(f"{path}.txt is missing; make it with `python -m engine.training corpus`", param_hint="--work")
    return Texts(path)


def _progress() -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)


if __name__ == "__main__":
    app()
