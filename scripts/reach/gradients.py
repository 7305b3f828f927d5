"""long_range.py gradients: what is left of a gradient over a distance, in each model, before and after training."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table
from support import figures
from support.tables import screen

import tinylm
from reach.copying import shown
from reach.curves import check
from tinylm.data.copy_task import CopyTask
from tinylm.engine.random_keys import philox
from tinylm.errors import ConfigError
from tinylm.models import LanguageModel, NgramLM
from tinylm.studies.copying import COPIERS, copier_config, new_copier, train_copier
from tinylm.studies.state_gradients import jacobian_norms, theory

_WHEN = ("before", "after")
_LOWEST, _HIGHEST = 1e-9, 1e3  # what is drawn
_COLUMNS = 5  # of panels, at most
_OF_STATE = r"$\partial h_T\,/\,\partial h_t$"
_OF = {"lstm": r"$\partial (h, c)_T\,/\,\partial (h, c)_t$", "gpt": r"$\partial\,$output$_T\,/\,\partial\,$embedding$_t$"}
_STREAM = 1 << 33  # the key of the random stream of the sequences, which no training and no test of `copy` uses


@dataclass(frozen=True)
class Gradients:
    """Prints by how much a gradient changes on its way back over a distance, before and after the training of `copy`: the norm
    ‖∂h_T/∂h_t‖ of the last hidden state's Jacobian by an earlier one, of an LSTM of h and c together, of a GPT of its last output by the
    input embedding of an earlier token. T is the token that calls for the copy. Beside it stands what theory says of a plain RNN.
    Writes gradients.json and gradients.png."""

    out: Path = Path("runs/long_range")
    """the folder for the files"""
    models: tuple[str, ...] = tuple(name for name, copier in COPIERS.items() if copier.kind != "ngram")
    """which models, by the names of 'copy'"""
    distances: tuple[int, ...] = (1, 2, 5, 10, 20, 50, 100)
    """the distances T - t to print, in tokens; training uses gaps up to the longest of them"""
    steps: int | None = None
    """training steps, as in 'copy'"""
    sequences: int = 4
    """number of sequences to measure"""
    seed: int = 0
    """seed of weights and sequences"""
    dry_run: bool = False
    """two steps per model, one sequence; nothing is written"""


def gradients(arguments: Gradients) -> None:
    for name in ("models", "distances"):
        if not vars(arguments)[name]:
            raise ConfigError(f"{name}: expected at least one")
    check("distance", 1, *arguments.distances)
    check("sequences", 1, arguments.sequences)
    tinylm.manual_seed(arguments.seed)  # refuses an invalid seed
    task, longest = CopyTask(), max(arguments.distances)
    steps, count = (2, 1) if arguments.dry_run else (arguments.steps, arguments.sequences)
    configs = {name: copier_config(name, task, longest, steps, arguments.seed) for name in arguments.models}
    for name in configs:
        if COPIERS[name].kind == "ngram":
            raise ConfigError(f"model {name!r} has no gradients: expected others")
    rows = task.sequences(longest, count, np.random.Generator(philox((arguments.seed, _STREAM))))[:, : -task.payload]
    measured: dict[str, dict[str, Any]] = {}
    for name, config in configs.items():
        print(f"{name} ...", file=sys.stderr, flush=True)
        before = measure(new_copier(task, config, COPIERS[name].start), rows)
        model = train_copier(task, config, longest, shown([]), start=COPIERS[name].start)
        measured[name] = {"before": before, "after": measure(model, rows)}
    print_table(measured, arguments.distances)
    if not arguments.dry_run:
        record = {"seed": arguments.seed, "sequences": rows.tolist(), "norms": measured}
        record["models"] = {name: config.to_json() | {"start": COPIERS[name].start} for name, config in configs.items()}
        figures.write(arguments.out, "gradients", record, drawn(measured))


def measure(model: LanguageModel | NgramLM, rows: np.ndarray) -> dict[str, Any]:
    """Returns the norm by distance, the root mean square over the sequences, and what theory says. The model is float64 afterwards:
    float32 would end at 1e-38, and the square of a gradient far before."""
    assert isinstance(model, LanguageModel)
    model.to(dtype="float64")
    norms = np.sqrt(np.mean([jacobian_norms(model, row) ** 2 for row in rows], axis=0))
    found = theory(model)
    return {"norm": norms.tolist()} | ({} if found is None else found._asdict())


def print_table(measured: dict[str, dict[str, Any]], distances: Sequence[int]) -> None:
    table = Table("norm over", "", *(f"{k}" for k in distances), "bound", "radius", box=None)
    for name, both in measured.items():
        for when in _WHEN:
            one = both[when]
            theory_cells = [f"{one[key]:.3g}" if key in one else "-" for key in ("bound", "radius")]
            table.add_row(name if when == "before" else "", when, *(f"{one['norm'][k]:.2g}" for k in distances), *theory_cells)
    screen().print(table)
    print("root mean square, over all directions, of the factor by which a gradient changes; 1: it is as long as before")
    print("of an LSTM h and c together; a GPT has no state: its last output by the input embedding of the earlier token")
    print("bound: the largest slope times the largest singular value of W_hh, the most per token; radius: with its spectral radius")


def drawn(measured: dict[str, dict[str, Any]]) -> Figure:
    """Returns one panel per model: the norm by distance before and after training, and theory's bounds."""
    lines = math.ceil(len(measured) / _COLUMNS)
    columns = math.ceil(len(measured) / lines)
    figure = Figure(figsize=(1 + 2.5 * columns, 0.8 + 2.4 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    for axes, (name, both) in zip(panels.flat, measured.items(), strict=False):
        axes.set_title(f"{name}\n{_OF.get(COPIERS[name].kind, _OF_STATE)}", fontsize=9)
        for when, color in zip(_WHEN, ("tab:orange", "tab:blue"), strict=True):
            norms = np.array(both[when]["norm"])
            k = np.arange(len(norms))
            axes.plot(k, np.maximum(norms, _LOWEST / 10), color=color, label=f"{when} training")
            if "bound" in both[when]:
                with np.errstate(over="ignore"):
                    bound = np.clip(both[when]["bound"] ** k.astype(float), _LOWEST / 10, 10 * _HIGHEST)
                axes.plot(k, bound, color=color, linestyle=":", linewidth=1.2, label=f"its bound, {when}")
        axes.set_yscale("log")
        axes.set_ylim(_LOWEST, _HIGHEST)
        axes.grid(alpha=0.3)
    for axes in panels.flat[len(measured) :]:
        axes.set_visible(False)
    for axes in panels[:, 0]:
        axes.set_ylabel("norm")
    figure.supxlabel("distance T - t, tokens", fontsize=10)
    labelled = {label: line for axes in panels.flat for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(labelled.values(), labelled.keys(), loc="outside upper center", ncols=4, fontsize=9)
    return figure
