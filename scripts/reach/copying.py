"""long_range.py copy: how far back models remember, by a task whose answer lies a known distance back."""

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from support import figures
from support.tables import screen

import tinylm
from reach.curves import Curve, check, new_figure
from tinylm.data.copy_task import CopyTask
from tinylm.errors import ConfigError
from tinylm.studies.copying import COPIERS, copier_config, recall, train_copier
from tinylm.train.records import Report


@dataclass(frozen=True)
class Copy:
    """Trains small models to repeat a few random symbols after a gap of random noise, and prints the percentage of
    symbols that they repeat correctly by the length of the gap: the mean of several seeds, and below it their range. They are trained
    on short gaps first, on longer ones as soon as they repeat what they have, and tested on new sequences. Writes copy.json and
    copy.png."""

    out: Path = Path("runs/long_range")
    """the folder for the files"""
    models: tuple[str, ...] = tuple(COPIERS)
    """which models; of the plain RNNs with the nonlinearity and the initial recurrent weights, 'rnn' itself is tanh with PyTorch's"""
    gaps: tuple[int, ...] = (5, 10, 20, 30, 50, 75, 100)
    """the gaps to test, in tokens; training uses gaps up to the longest of them"""
    steps: int | None = None
    """training steps of 32 sequences each; by default as many as each model needs, see tinylm/studies/copying.py"""
    sequences: int = 500
    """number of sequences to test each gap with"""
    repeats: int = 3
    """trainings per model: with this seed, and with the next ones"""
    curriculum: bool = True
    """short gaps first; without it, gaps of all lengths from the first step on"""
    seed: int = 0
    """first seed of weights and sequences"""
    dry_run: bool = False
    """two steps per model with one seed, 20 sequences per gap; nothing is written"""


def copy(arguments: Copy) -> None:
    if not arguments.gaps:
        raise ConfigError("gaps: expected at least one")
    check("sequences", 1, arguments.sequences)
    check("gap", 1, *arguments.gaps)
    check("repeats", 1, arguments.repeats)
    seeds = range(arguments.seed, arguments.seed + (1 if arguments.dry_run else arguments.repeats))
    for seed in (seeds[0], seeds[-1]):
        tinylm.manual_seed(seed)  # refuses an invalid seed
    task, longest = CopyTask(), max(arguments.gaps)
    steps, count = (2, 20) if arguments.dry_run else (arguments.steps, arguments.sequences)
    configs = {model: copier_config(model, task, longest, steps, seeds[0]) for model in arguments.models}
    runs: list[dict[str, Any]] = []
    results: dict[str, np.ndarray] = {}  # (seeds, gaps)
    for name in configs:
        for seed in seeds:
            print(f"{name}, seed {seed} ...", file=sys.stderr, flush=True)
            records: list[dict[str, Any]] = []
            config = copier_config(name, task, longest, steps, seed)
            how = {"start": COPIERS[name].start, "gradual": arguments.curriculum}
            model = train_copier(task, config, longest, shown(records), **how)
            accuracies = [recall(model, task, gap, count, seed) for gap in arguments.gaps]
            reached = records[-1]["longest_gap"] if records else longest
            runs.append({"model": name, "seed": seed, "accuracy": accuracies, "trained_to_gap": reached})
        results[name] = np.array([run["accuracy"] for run in runs if run["model"] == name])
    table = Table("symbols recalled, %", *(f"gap {gap}" for gap in arguments.gaps), "trained to gap", box=None)
    for name, found in results.items():
        reached = [run["trained_to_gap"] for run in runs if run["model"] == name]
        table.add_row(name, *(f"{100 * a:.1f}" for a in found.mean(axis=0)), ", ".join(map(str, reached)))
        if len(seeds) > 1:
            table.add_row("", *map(range_text, found.min(axis=0), found.max(axis=0)))
    table.add_row("chance", *(f"{100 * task.chance:.1f}" for _ in arguments.gaps))
    screen().print(table)
    if not arguments.dry_run:
        accuracy = {name: found.mean(axis=0).tolist() for name, found in results.items()}
        record = {"gaps": arguments.gaps, "accuracy": accuracy, "chance": task.chance, "sequences": count, "task": vars(task)}
        record["models"] = {name: config.to_json() | {"start": COPIERS[name].start} for name, config in configs.items()}
        record |= {"curriculum": arguments.curriculum, "runs": runs}
        curves = {name: Curve(arguments.gaps, *bars(found, count * task.payload)) for name, found in results.items()}
        figure, axes = new_figure("gap, tokens of noise", "symbols recalled, %", curves)
        axes.axhline(100 * task.chance, color="grey", linestyle=":", label="chance")
        axes.set_ylim(0, 103)
        figure.legend(loc="outside right upper")
        figures.write(arguments.out, "copy", record, figure)


def range_text(low: float, high: float) -> str:
    return f"{100 * low:.1f}-{100 * high:.1f}"


def bars(found: np.ndarray, symbols: int) -> tuple[list[float], Any]:
    """Returns the mean in per cent of accuracies (seeds, gaps), and what is drawn as its bars: the range of the seeds; of one seed alone
    the standard error, taking the symbols as independent of one another."""
    mean = found.mean(axis=0)
    if len(found) == 1:
        return (100 * mean).tolist(), [100 * math.sqrt(a * (1 - a) / symbols) for a in mean]
    return (100 * mean).tolist(), (100 * (mean - found.min(axis=0)), 100 * (found.max(axis=0) - mean))


def shown(records: list[dict[str, Any]]) -> Report:
    """Returns a report that prints each record of a training, and appends it to the list."""

    def show(record: dict[str, Any]) -> None:
        records.append(record)
        print(f"  step {record['step']}  loss {record['loss']:.4f}  gaps to {record['longest_gap']}", file=sys.stderr, flush=True)

    return show
