"""Pictures of a training run from its metrics.jsonl."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import rcParams
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from tinylm.explain.figures import Picture

Records = Sequence[Mapping[str, Any]]


def figures(records: Records, ngram: float | None = None, torch: Records = ()) -> dict[str, Figure]:
    """Returns the pictures that the records allow, by title. ngram: the loss of an n-gram model, drawn as a line for
    comparison; torch: the records of the same training by PyTorch, drawn as curves for comparison."""
    made = {
        "Training curves": training_curves(records, ngram, torch),
        "Learning rate": curve(records, "lr", "learning rate"),
        "Norm of the gradient before clipping": curve(records, "grad_norm", "norm of the gradient", "log"),
        "Norm of the gradient by layer": norms_by_layer(records),
    }
    return {title: figure for title, figure in made.items() if figure is not None}


def series(records: Records, name: str) -> tuple[list[int], list[Any]]:
    """Returns (steps, values) of the records that have the value."""
    found = [(record["step"], record[name]) for record in records if record.get(name) is not None]
    return [step for step, _ in found], [value for _, value in found]


def _axes(ylabel: str, height: float = 3.2) -> tuple[Figure, Any]:
    figure = Picture(figsize=(4.6, height), layout="constrained")  # small, so that its text is large enough on a phone
    axes = figure.add_subplot(xlabel="step", ylabel=ylabel)
    axes.grid(alpha=0.3)
    return figure, axes


def training_curves(records: Records, ngram: float | None = None, torch: Records = ()) -> Figure | None:
    """Draws the losses in training and validation; those of PyTorch's run on top and dotted, so that equal ones are
    both seen. None without any."""
    members = sorted({record["member"] for record in records if "member" in record})  # of an ensemble, trained one after the other
    figure, axes = _axes("nats per text" if members else "nats per token")
    for member in members:
        own = [record for record in records if record.get("member") == member]
        line = axes.plot(*series(own, "loss"), linewidth=0.8, label=f"training, member {member}")[0]
        if any("val_loss" in record for record in own):
            label = "validation of each" if member == members[0] else None
            axes.plot(*series(own, "val_loss"), "--", color=line.get_color(), linewidth=1.4, label=label)
    if members:
        records = ()
    for whose, whole, style, mark in (("", records, "-", "o"), ("PyTorch: ", torch, ":", "x")):
        training, validation = series(whole, "loss"), series(whole, "val_loss")
        dark = 0.6 if whose else 1.0
        if training[0]:
            axes.plot(*training, style, color=_shade("C0", dark), linewidth=1.4 if whose else 0.8, label=f"{whose}training")
        if validation[0]:
            label = f"{whose}validation, {min(validation[1]):.4f} at best"
            axes.plot(*validation, style, color=_shade("C1", dark), marker=mark, label=label)
    if not axes.lines:
        return None
    if ngram is not None:
        axes.axhline(ngram, color=rcParams["text.color"], linestyle="--", linewidth=1, label=f"n-gram, {ngram:.4f}")
    axes.legend(fontsize=8)
    return figure


def compared_curves(runs: Mapping[str, Records]) -> Figure | None:
    """Draws the losses of several runs, by name: a thin line in training, points in validation. None without any.

    A run with a single record, such as one that counts n-grams, is a dashed line across.
    """
    members = any("member" in record for records in runs.values() for record in records)
    figure, axes = _axes("nats per text" if members else "nats per token", 4.2 + 0.2 * len(runs))
    for i, (name, records) in enumerate(runs.items()):
        color, line = f"C{i % 10}", ("-", "--", "-.", ":")[i // 10 % 4]
        _, every = validation = series(records, "val_loss")
        label = f"{name}, {min(every):.4f} at best" if every else name
        if len(records) == 1 and every:
            axes.axhline(every[0], color=color, linestyle="--", linewidth=1, label=label)
            continue
        for member in sorted({record.get("member", 0) for record in records}):
            training = series([record for record in records if record.get("member", 0) == member], "loss")
            axes.plot(*training, line, color=color, linewidth=0.8, alpha=0.7, label=None if every or member > 1 else label)
        if every:
            axes.plot(*validation, line, color=color, marker="o", markersize=4, label=label)
    if not axes.lines:
        return None
    figure.legend(loc="outside lower center", fontsize=8)
    return figure


def _shade(color: str, dark: float) -> tuple[float, ...]:
    """Returns the colour moved towards that of text: 1 leaves it as it is, 0 makes it that of text."""
    return tuple(dark * part + (1 - dark) * ink for part, ink in zip(to_rgb(color), to_rgb(rcParams["text.color"]), strict=True))


def curve(records: Records, name: str, label: str, scale: str = "linear") -> Figure | None:
    """Draws one number by step; None if it was not recorded."""
    steps, values = series(records, name)
    if not steps:
        return None
    figure, axes = _axes(label)
    axes.plot(steps, values, linewidth=1)
    if scale == "log":
        _logarithmic(axes)
    return figure


def _logarithmic(axes: Any) -> None:
    """Makes the y axis logarithmic, with plain numbers at 1, 2 and 5 times the powers of ten."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def norms_by_layer(records: Records) -> Figure | None:
    """Draws one curve per layer of the norms that `tinylm.train.metrics.gradient_norms` recorded; None without any."""
    steps, values = series(records, "grad_norms")
    if not any(values):
        return None
    figure, axes = _axes("norm of the gradient", 4.6)
    styles = itertools.cycle(("-", "--", "-.", ":"))
    for i, layer in enumerate(dict.fromkeys(itertools.chain.from_iterable(values))):
        axes.plot(steps, [norms.get(layer, math.nan) for norms in values], next(styles), color=f"C{i % 10}", linewidth=1, label=layer)
    _logarithmic(axes)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    return figure
