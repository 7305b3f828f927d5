"""Measures how the time of a training step grows with the size of the model and of the sequence.

Every measurement runs in a fresh process, and the sides take turns.
"""

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from benchmark.rounds import check_device, machine, median_seconds, rounds
from benchmark.workloads import WORKLOADS, Workload
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter
from rich.table import Table
from support import console, figures
from support.tables import screen

from tinylm.errors import ConfigError

GPT = dataclasses.replace(WORKLOADS["gpt-small"], steps=12)
SIZES = {"batch_size": (3, 6, 12, 24, 48), "block_size": (16, 32, 64, 128, 256), "width": (64, 128, 256, 512), "layers": (1, 2, 4, 8)}
MODELS = {"RNN": "rnn-lm", "Transformer": "transformer-lm"}
LENGTHS = (10, 20, 40, 80, 160, 320, 640, 1280)
TOKENS = 2560  # per step, at every length
NAMES = {"tinylm": "tinylm", "torch": "PyTorch"}


@dataclass(frozen=True)
class Arguments:
    """Measures how the time of a training step grows, draws it on logarithmic axes and prints the slope of the line
    through the points: time ~ size^slope. Writes growth.json and .png, sequence.json and .png. Run it on an idle
    machine."""

    plot: Literal["growth", "sequence"] | None = None
    """growth: a GPT by batch size, block size, width and layers; sequence: an RNN and a Transformer by the length of the
    sequence, with the same number of tokens per step. By default both"""
    against: Literal["torch"] | None = None
    """also measure PyTorch (not compiled)"""
    pairs: int = 3
    """number of fresh processes per side and point"""
    device: str = "cpu"
    """'cpu', 'cuda' or 'cuda:N'"""
    out: Path = Path("runs/growth")
    """the folder for the files"""
    dry_run: bool = False
    """two points per curve, two steps each, once; nothing is written"""


class Curve(NamedTuple):
    """One line of a plot: sizes and the seconds per step."""

    x: Sequence[int]
    y: Sequence[float]

    @property
    def slope(self) -> float:
        """Returns the slope of the least-squares line through (log x, log y)."""
        return float(np.polyfit(np.log(self.x), np.log(self.y), 1)[0])


Curves = dict[str, Curve]


def gpt_of(size: str, value: int) -> Workload:
    """Returns the small GPT with one of its sizes changed; its heads stay 32 wide."""
    work = dataclasses.replace(GPT, **{size: value})  # type: ignore[arg-type]
    return dataclasses.replace(work, heads=work.width // 32)


def sequence_of(model: str, length: int) -> Workload:
    """Returns a language model's workload with sequences of this length, over 65 characters: over words, most of the time
    would go into the output layer, which treats all positions at once in either model."""
    work = WORKLOADS[MODELS[model]]
    return dataclasses.replace(work, block_size=length, batch_size=TOKENS // length, vocab_size=65, steps=12)


def measured(works: dict[int, Workload], title: str, arguments: Arguments, known: dict[Workload, dict[str, float]]) -> Curves:
    """Measures one curve per side. `known` keeps the seconds, so that no shape is measured twice."""
    sides = ["tinylm", "torch"] if arguments.against else ["tinylm"]
    if arguments.dry_run:
        works = {x: dataclasses.replace(work, steps=2) for x, work in list(works.items())[:2]}
    for x, work in works.items():
        if work not in known:
            print(f"{title} {x} ...", file=sys.stderr, flush=True)
            found = rounds(f"{title} {x}", work, sides, arguments.device, 1 if arguments.dry_run else arguments.pairs)
            known[work] = {side: median_seconds(found[side]) for side in sides}
    return {side: Curve(list(works), [known[work][side] for work in works.values()]) for side in sides}


def growth(arguments: Arguments) -> None:
    known: dict[Workload, dict[str, float]] = {}
    found = {
        size: measured({v: gpt_of(size, v) for v in values}, size.replace("_", " "), arguments, known) for size, values in SIZES.items()
    }
    show("size of the GPT", {size.replace("_", " "): curves for size, curves in found.items()})
    if not arguments.dry_run:
        figure = Figure(figsize=(9, 7), layout="constrained")
        for i, (size, curves) in enumerate(found.items()):
            axes = figure.add_subplot(2, 2, i + 1, xlabel=size.replace("_", " "), ylabel="ms per step")
            draw(axes, {f"{NAMES[side]}, slope {curve.slope:.2f}": curve for side, curve in curves.items()})
        write(
            arguments,
            "growth",
            {"base": dataclasses.asdict(GPT), "curves": {size: as_record(curves) for size, curves in found.items()}},
            figure,
        )


def sequence(arguments: Arguments) -> None:
    known: dict[Workload, dict[str, float]] = {}
    found = {model: measured({n: sequence_of(model, n) for n in LENGTHS}, f"{model}, length", arguments, known) for model in MODELS}
    show(f"by length, {TOKENS:,} tokens per step", found)
    if not arguments.dry_run:
        figure = Figure(figsize=(7, 5), layout="constrained")
        axes = figure.add_subplot(xlabel=f"tokens per sequence ({TOKENS:,} per step)", ylabel="ms per step")
        draw(axes, {f"{model}, {NAMES[side]}, slope {c.slope:.2f}": c for model, curves in found.items() for side, c in curves.items()})
        shapes = {model: dataclasses.asdict(sequence_of(model, LENGTHS[0])) for model in MODELS}
        write(arguments, "sequence", {"base": shapes, "curves": {model: as_record(curves) for model, curves in found.items()}}, figure)


def show(title: str, found: dict[str, Curves]) -> None:
    """Prints the points and slopes as a table."""
    table = Table(title, "side", "ms per step", "slope", box=None)
    for name, curves in found.items():
        for side, curve in curves.items():
            points = "  ".join(f"{x}: {1e3 * y:.1f}" for x, y in zip(curve.x, curve.y, strict=True))
            table.add_row(name, NAMES[side], points, f"{curve.slope:.2f}")
    screen(160).print(table)


def draw(axes: Axes, curves: dict[str, Curve]) -> None:
    for name, curve in curves.items():
        style = "--" if "PyTorch" in name else "-"
        axes.plot(curve.x, [1e3 * y for y in curve.y], style, marker="o", markersize=4, label=name)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(LogFormatter())  # 200 instead of 2 × 10²
    axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
    ticks = next(iter(curves.values())).x
    axes.set_xticks(ticks, [str(x) for x in ticks])
    axes.grid(alpha=0.3)
    axes.legend()


def as_record(curves: Curves) -> dict[str, Any]:
    return {side: {"sizes": curve.x, "seconds": curve.y, "slope": curve.slope} for side, curve in curves.items()}


def write(arguments: Arguments, name: str, record: dict[str, Any], figure: Figure) -> None:
    figures.write(arguments.out, name, {"machine": machine(), "device": arguments.device, "pairs": arguments.pairs, **record}, figure)


PLOTS = {"growth": growth, "sequence": sequence}


def main() -> None:
    arguments = console.parse(Arguments)
    if arguments.pairs < 1:
        raise ConfigError(f"pairs is {arguments.pairs}: expected at least 1")
    check_device(arguments.device, arguments.against)
    for name in [arguments.plot] if arguments.plot else PLOTS:
        PLOTS[name](arguments)


if __name__ == "__main__":
    console.run(main)
