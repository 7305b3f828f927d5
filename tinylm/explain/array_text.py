"""Arrays in a few words: shape, norm, and the elements of a small one."""

import html
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinylm.engine.array_summaries import short_html, statistics
from tinylm.engine.arrays import Array
from tinylm.engine.devices import to_numpy

FEW = 24  # the largest array that is shown whole where there is room
_FEW = 8  # the largest one in a line of text


def norm(array: Array) -> float:
    """Returns the square root of the sum of squares, summed in float64."""
    return float(np.linalg.norm(to_numpy(array).astype(np.float64).ravel()))


def cosine(a: Array, b: Array) -> float:
    """Returns a · b / (|a| |b|), 0 if one of them is 0: how far a part points in the direction of the sum."""
    size = norm(a) * norm(b)
    return float(np.vdot(to_numpy(a).astype(np.float64), to_numpy(b).astype(np.float64))) / size if size else 0.0


def shape_text(shape: tuple[int, ...] | None) -> str:
    """Returns '(2, 3)'; '-' for an argument that is no array."""
    return "-" if shape is None else f"({', '.join(map(str, shape))})"


def described(array: Array | None) -> str:
    """Returns '(2, 3) |g| 0.5', with the elements of a small array."""
    if array is None:
        return "none, counted as zeros"
    values = f"  {np.array2string(to_numpy(array), precision=4, separator=', ')}".replace("\n", "") if array.size <= _FEW else ""
    return f"{shape_text(array.shape)} |g| {norm(array):.4g}{values}"


def contents(value: Any) -> str:
    """Returns a number, the elements of an array of up to 24 (of integers, 128), or the statistics of a larger one in two lines."""
    if getattr(value, "shape", None) is None:
        return "-" if value is None else str(value)
    array = to_numpy(value)
    if is_small(array):
        return np.array2string(array, precision=4, separator=", ", max_line_width=60, threshold=1000)
    found = {name: f"{number:.3g}" for name, number in statistics(array).items()}
    return f"norm {found['norm']}, mean {found['mean']}\n{found['min']} to {found['max']}"


def is_small(array: np.ndarray) -> bool:
    """Returns True for an array that is shown whole: up to 24 elements, or 128 integers, such as the ids of a text."""
    return array.size <= (FEW if array.dtype.kind == "f" else 128)


def table_of_arrays(title: str, head: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> str:
    """Returns a table for notebooks. rows: a name, then arrays, numbers or None, one per column of `head`."""
    lines = ["<tr><th></th>" + "".join(f"<th>{html.escape(text)}</th>" for text in head) + "</tr>"]
    for name, *both in rows:
        shown = (short_html(to_numpy(x), shape_text(x.shape)) if hasattr(x, "shape") else "" if x is None else str(x) for x in both)
        lines.append(f"<tr><th>{html.escape(name)}</th>" + "".join(f"<td>{text}</td>" for text in shown) + "</tr>")
    return f"<div><b>{html.escape(title)}</b><table>{''.join(lines)}</table></div>"
