"""The figures of a classifier: in the terminal, and as files: figures.json, predictions.tsv and confusion.png."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from support.tables import screen
from tinylm.explain.drawing import heat_map
from tinylm.explain.figures import png
from tinylm.files.atomic import write_atomically
from tinylm.files.json_files import write_json

_MOST = 12  # classes whose confusion matrix fits into a terminal
_CONFUSIONS = 10  # that are listed of more classes


def interval(low: float, high: float, scale: float = 100, sign: str = "") -> str:
    return f"{scale * low:{sign}.2f} to {scale * high:{sign}.2f}"


def show_figures(figures: Mapping[str, Any]) -> None:
    """Prints what `figures_of` gives, and what the baselines have on the same texts."""
    print(f"always saying {figures['majority']!r:.40} gives {100 * figures['majority_accuracy']:.2f} %")
    for name, theirs in figures.get("against", {}).items():
        difference = f"{100 * theirs['difference']:+.2f}, 95 % interval {interval(*theirs['interval'], sign='+')}"
        print(f"{name} {100 * theirs['accuracy']:.2f} %: the difference is {difference}")
    print(
        f"macro-F1 {figures['macro_f1']:.4f}, log loss {figures['log_loss']:.4f} nats, calibration error {figures['calibration_error']:.4f}"
    )
    table = Table("label", "texts", "precision", "recall", "F1", box=None)
    for each in figures["classes"]:
        table.add_row(
            Text(f"{each['label']:.40}"), f"{each['texts']:,}", *(_four_digits(each[name]) for name in ("precision", "recall", "f1"))
        )
    screen().print(table)
    screen().print(_confusion_table(figures))


def _four_digits(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _confusion_table(figures: Mapping[str, Any]) -> Table:
    """Returns the confusion matrix, of many classes the most common confusions."""
    names, confusion = [each["label"] for each in figures["classes"]], np.array(figures["confusion"])
    if len(names) <= _MOST:
        table = Table("label", box=None)
        for name in names:
            table.add_column(Text(f"said {name:.20}"))
        for name, row in zip(names, confusion.tolist(), strict=True):
            table.add_row(Text(f"{name:.40}"), *(f"{n:,}" for n in row))
        return table
    wrong = confusion - np.diag(np.diag(confusion))
    table = Table("label", "said", "texts", box=None)
    for place in np.argsort(-wrong, axis=None, kind="stable")[:_CONFUSIONS]:
        true, said = np.unravel_index(place, wrong.shape)
        if wrong[true, said]:
            table.add_row(Text(f"{names[true]:.40}"), Text(f"{names[said]:.40}"), f"{wrong[true, said]:,}")
    return table


def write_figures(folder: Path, figures: Mapping[str, Any], log_p: np.ndarray, texts: Sequence[str], labels: np.ndarray) -> None:
    """Writes figures.json, predictions.tsv (label, predicted label, the probability of each, text) and confusion.png into a folder."""
    names = [each["label"] for each in figures["classes"]]
    table = io.StringIO()
    writer = csv.writer(table, delimiter="\t", lineterminator="\n")
    writer.writerow(["label", "predicted", *(f"p({name})" for name in names), "text"])
    for text, label, row in zip(texts, labels, log_p, strict=True):
        writer.writerow([names[label], names[int(row.argmax())], *(f"{p:.6f}" for p in np.exp(row)), text])
    write_json(folder / "figures.json", dict(figures))
    write_atomically(folder / "predictions.tsv", table.getvalue().encode("utf-8", "backslashreplace"))
    picture = heat_map(
        np.array(figures["confusion"], float), [f"{name:.30}" for name in names], [f"{name:.30}" for name in names],
        title="label (rows), predicted label (columns)", bar_label="texts",
    )  # fmt: skip
    write_atomically(folder / "confusion.png", png(picture))
    print(f"written: {folder}: figures.json, predictions.tsv, confusion.png")
