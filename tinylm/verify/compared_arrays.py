"""Compares two arrays: a row with several measures of their difference."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from tinylm.verify.reports import Row, joint_norm, relative_error

TOLERANCES = {"float64": 1e-10, "float32": 1e-5}  # values and gradients, relative to the norm


def compared(name: str, a: np.ndarray, b: np.ndarray, all_norm: float, sides: tuple[str, str] = ("tinylm", "PyTorch")) -> Row:
    """Returns the row that compares a with the trusted b; see `relative_error` for all_norm.

    Its measures: max_abs, the largest |a - b|; cosine, of the angle between the two as vectors (NaN if one is
    zero); ulps, the largest |a - b| in units of the last place of b, in the coarser dtype. Elements below a
    thousandth of the largest count as that: near a zero crossing, units of the last place say nothing.
    """
    coarser = min(a.dtype, b.dtype, key=lambda dtype: dtype.itemsize)
    unit = np.spacing(np.maximum(np.abs(b), 1e-3 * np.max(np.abs(b), initial=0)).astype(coarser)).astype(np.float64)
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    difference = np.abs(a - b)
    with np.errstate(over="ignore"):  # compared with a zero array, every error is infinitely many units
        ulps = float(np.max(difference / unit, initial=0))
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    measures = {
        "max_abs": float(np.max(difference, initial=0)),
        "cosine": min(1.0, float(np.vdot(a, b)) / norms) if norms else float("nan"),
        "ulps": ulps,
    }
    detail = ""
    if a.size:
        i = tuple(int(n) for n in np.unravel_index(np.argmax(difference), a.shape))
        detail = f"worst at {list(i)}: {a[i]:.10g} by {sides[0]}, {b[i]:.10g} by {sides[1]}"
    return Row(name, relative_error(a, b, all_norm), detail, measures=measures)


def compared_arrays(pairs: list[tuple[str, np.ndarray, np.ndarray]], sides: tuple[str, str] = ("tinylm", "PyTorch")) -> list[Row]:
    """Returns one row for each (name, a, b); errors are relative to at least a thousandth of the norm of all b."""
    norm = joint_norm([b for _, _, b in pairs])
    return [compared(name, a, b, norm, sides) for name, a, b in pairs]


def missing(name: str, what: str) -> Row:
    """Returns the row of a failure: something that is missing on one side or has another shape."""
    return Row(name, float("inf"), what)


def mismatches(ours: dict[str, tuple[int, ...]], theirs: dict[str, tuple[int, ...]], other: str = "PyTorch") -> list[Row]:
    """Returns one row for every name that is missing on one side, and for every shape that differs."""
    rows = [missing(name, f"only in tinylm, of shape {shape}") for name, shape in ours.items() if name not in theirs]
    rows += [missing(name, f"only in {other}, of shape {shape}") for name, shape in theirs.items() if name not in ours]
    both = [(name, shape, theirs[name]) for name, shape in ours.items() if name in theirs]
    return rows + [missing(name, f"shape {a} in tinylm, {b} in {other}") for name, a, b in both if a != b]


def tied_names(named: Iterable[tuple[str, Any]]) -> set[frozenset[str]]:
    """Returns the names of each parameter that has several, from (name, parameter) once for each name."""
    together: dict[int, set[str]] = {}
    for name, parameter in named:
        together.setdefault(id(parameter), set()).add(name)
    return {frozenset(names) for names in together.values() if len(names) > 1}
