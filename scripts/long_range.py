"""Measures how far back language models see: by a copy task across noise, and by the length of the context."""

import itertools
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table
from rich.text import Text
from support import console, figures
from support.tables import screen
from support.texts import warn_of_changes

import tinylm
from tinylm.data.copy_task import CopyTask
from tinylm.data.unknown import same_tokens, unknown_in
from tinylm.decode.context import log_probabilities_given, sample_positions
from tinylm.errors import ConfigError, DataError
from tinylm.models import LanguageModel, NgramLM
from tinylm.studies.copying import COPIERS, copier_config, recall, train_copier
from tinylm.train import load_run
from tinylm.train.tasks.language_model_config import corpus_of


@dataclass(frozen=True)
class Copy:
    """Trains small models to repeat a few random symbols after a gap of random noise, and prints the percentage of
    symbols that they repeat correctly by the length of the gap. They are trained on sequences with gaps of all lengths
    and tested on new ones. Writes copy.json and copy.png."""

    out: Path = Path("runs/long_range")
    """the folder for the files"""
    models: tuple[str, ...] = tuple(COPIERS)
    """which models"""
    gaps: tuple[int, ...] = (5, 10, 20, 30, 50, 75, 100)
    """the gaps to test, in tokens; training uses gaps up to the longest of them"""
    steps: int | None = None
    """training steps of 32 sequences each; by default 3,000, and 10,000 for the RNN, whose steps are faster"""
    sequences: int = 500
    """number of sequences to test each gap with"""
    seed: int = 0
    """seed of weights and sequences"""
    dry_run: bool = False
    """two steps per model, 20 sequences per gap; nothing is written"""


@dataclass(frozen=True)
class Context:
    """Prints the mean loss on the same validation tokens, with its standard error, by how many of the tokens before them
    the model is given ('-': more than a Transformer's block holds). Recurrent models start from a state of zeros. The
    runs must have been trained on the same data with the same tokenizer. Writes context.json and context.png."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """run folders that 'train' wrote"""
    out: Path = Path("runs/long_range")
    """the folder for the files"""
    contexts: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256)
    """the numbers of tokens to give"""
    positions: int = 2000
    """number of validation tokens to score, drawn at random"""
    seed: int = 0
    """seed of their choice"""
    device: str = "cpu"
    """'cpu', 'cuda' or 'cuda:N'"""
    dry_run: bool = False
    """score 10 positions only; nothing is written"""


class Curve(NamedTuple):
    """What is drawn for one model."""

    x: Sequence[float]
    y: Sequence[float]
    error: Sequence[float]  # of y, drawn as bars


def copy(arguments: Copy) -> None:
    if not arguments.gaps:
        raise ConfigError("gaps: expected at least one")
    check("sequences", 1, arguments.sequences)
    check("gap", 1, *arguments.gaps)
    tinylm.manual_seed(arguments.seed)  # refuses an invalid seed
    task, longest = CopyTask(), max(arguments.gaps)
    steps, count = (2, 20) if arguments.dry_run else (arguments.steps, arguments.sequences)
    configs = {model: copier_config(model, task, longest, steps, arguments.seed) for model in arguments.models}
    results: dict[str, list[float]] = {}
    for name, config in configs.items():
        print(f"{name} ...", file=sys.stderr, flush=True)
        model = train_copier(task, config, longest, show)
        results[name] = [recall(model, task, gap, count, arguments.seed) for gap in arguments.gaps]
    table = Table("symbols recalled, %", *(f"gap {gap}" for gap in arguments.gaps), box=None)
    for name, accuracies in (*results.items(), ("chance", [task.chance] * len(arguments.gaps))):
        table.add_row(name, *(f"{100 * a:.1f}" for a in accuracies))
    screen().print(table)
    if not arguments.dry_run:
        record = {"gaps": arguments.gaps, "accuracy": results, "chance": task.chance, "sequences": count, "task": vars(task)}
        record["models"] = {name: config.to_json() for name, config in configs.items()}
        curves = {name: Curve(arguments.gaps, *percent(accuracies, count * task.payload)) for name, accuracies in results.items()}
        figure, axes = new_figure("gap, tokens of noise", "symbols recalled, %", curves)
        axes.axhline(100 * task.chance, color="grey", linestyle=":", label="chance")
        axes.set_ylim(0, 103)
        figure.legend(loc="outside right upper")
        figures.write(arguments.out, "copy", record, figure)


def percent(accuracies: list[float], symbols: int) -> tuple[list[float], list[float]]:
    """Returns the accuracies and their standard errors in per cent, taking the symbols as independent of one another."""
    return [100 * a for a in accuracies], [100 * math.sqrt(a * (1 - a) / symbols) for a in accuracies]


def show(record: dict[str, Any]) -> None:
    print(f"  step {record['step']}  loss {record['loss']:.4f}", file=sys.stderr, flush=True)


def context(arguments: Context) -> None:
    if not (arguments.runs and arguments.contexts):
        raise ConfigError(f"{'contexts' if arguments.runs else 'runs'}: expected at least one")
    check("positions", 2, arguments.positions)
    check("context", 1, *arguments.contexts)
    tinylm.manual_seed(arguments.seed)  # refuses an invalid seed
    models, ids, note = load_models(arguments.runs, arguments.device)
    count = 10 if arguments.dry_run else arguments.positions
    positions = sample_positions(len(ids), max(arguments.contexts), count, arguments.seed)
    curves: dict[str, Curve] = {}
    for name, model in models.items():
        print(f"{name} ...", file=sys.stderr, flush=True)
        contexts = [c for c in arguments.contexts if reaches(model, c)]
        losses = [-log_probabilities_given(model, ids, positions, c, arguments.device) for c in contexts]
        errors = [float(loss.std(ddof=1)) / math.sqrt(len(loss)) for loss in losses]
        curves[name] = Curve(contexts, [float(loss.mean()) for loss in losses], errors)
    table = Table("tokens given", box=None)
    for name in curves:
        table.add_column(Text(name))
    for c in arguments.contexts:
        cells = [{x: f"{y:.4f} ± {e:.4f}" for x, y, e in zip(*curve, strict=True)} for curve in curves.values()]
        table.add_row(str(c), *(cell.get(c, "-") for cell in cells))
    screen().print(table)
    print(f"nats/token, mean ± standard error of the same {len(positions):,} validation tokens")
    if note:
        print(f"validation part: {note}")
    if not arguments.dry_run:
        runs = {name: {"contexts": c.x, "loss": c.y, "standard_error": c.error} for name, c in curves.items()}
        figure, axes = new_figure("tokens given before", "nats/token", curves)
        axes.set_xscale("log", base=2)
        axes.set_xticks(arguments.contexts, [str(c) for c in arguments.contexts])
        figure.legend(loc="outside right upper")
        figures.write(arguments.out, "context", {"positions": positions.tolist(), "runs": runs}, figure)


def check(name: str, least: int, *values: int) -> None:
    if min(values) < least:
        raise ConfigError(f"{name} is {min(values)}: expected at least {least}")


def load_models(folders: Sequence[Path], device: str) -> tuple[dict[str, LanguageModel | NgramLM], np.ndarray, str]:
    """Returns the models by folder, the validation ids, and a note about unknown words among them.

    Raises ConfigError if the ids differ between the models.
    """
    models: dict[str, LanguageModel | NgramLM] = {}
    first: Any = None
    for folder in folders:
        model, tokenizer, config = load_run(folder, device)
        if config is None:
            raise ConfigError(f"{folder} does not say what it was trained on: expected a run folder")
        try:
            corpus = corpus_of(config)
            text = "".join(corpus.validation)
            ids = tokenizer.encode(text)
        except DataError as error:
            raise DataError(f"the data of {folder}: {error}") from error
        warn_of_changes(folder, corpus)
        if first is not None and not (same_tokens(tokenizer, first[0]) and np.array_equal(ids, first[1])):
            raise ConfigError(f"{folders[0]} and {folder} do not validate on the same tokens: expected one data set and one tokenizer")
        first = first or (tokenizer, ids, unknown_in(tokenizer, text, ids, 1).note())
        models[str(folder)] = model
    return models, first[1], first[2]


def reaches(model: LanguageModel | NgramLM, context: int) -> bool:
    return isinstance(model, NgramLM) or model.block_size is None or context <= model.block_size


def new_figure(x: str, y: str, curves: dict[str, Curve]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot(xlabel=x, ylabel=y)
    for (name, curve), style in zip(curves.items(), itertools.cycle(("-", "--", "-.", ":"))):  # so that two equal curves are both visible
        axes.errorbar(curve.x, curve.y, curve.error, linestyle=style, marker="o", markersize=4, capsize=2, label=name)
    axes.grid(alpha=0.3)
    return figure, axes


SUBCOMMANDS = {
    "copy": ("[--help]", "a copy task, some minutes of training", console.subcommand(Copy, copy)),
    "context": ("RUN ... [--help]", "trained models by the length of their context", console.subcommand(Context, context)),
}


if __name__ == "__main__":
    console.run(lambda: console.run_subcommand(__doc__, SUBCOMMANDS))
