"""Whether a stored state of an optimiser fits the optimiser that is to go on from it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tinylm.errors import CheckpointError, listed


def fitting_state(own: Mapping[str, Any], state: Mapping[str, Any], squares: tuple[str, ...], owner: str) -> dict[str, np.ndarray]:
    """Returns the arrays of a state by name. Raises CheckpointError for names and shapes that are not those of `own`, and for values
    that no update leaves behind: counts below 0, negative squares, numbers that are not finite. squares: their names begin with these."""
    found = {k: np.asarray(state[k]) for k in own if k in state}
    problems = [f"missing {k!r}" for k in own if k not in state] + [f"unexpected {k!r:.80}" for k in state if k not in own]
    problems += [problem for k, array in found.items() if (problem := _problem(k, array, own[k], squares))]
    if problems:
        raise CheckpointError(f"the optimiser state does not fit {owner}: {listed(problems)}")
    return found


def _problem(name: str, array: np.ndarray, own: np.ndarray, squares: tuple[str, ...]) -> str:
    """Returns what is wrong with one array; "" if it fits."""
    if array.shape != own.shape:
        return f"misshapen {name!r}: {array.shape!s:.40}, expected {own.shape}"
    if array.dtype.kind not in "fiu":
        return f"{name!r} is of dtype {array.dtype!s:.40}"
    with np.errstate(over="ignore"):
        kept = array.astype(own.dtype) if array.dtype.kind == "f" and own.dtype.kind == "f" else array
    if not np.isfinite(kept).all():
        return f"{name!r} is not finite"
    if name.startswith("step.") and (array < 0 or array != int(array)):
        return f"{name!r} is {array}, expected a count"
    return f"{name!r} has negative squares" if squares and name.startswith(squares) and (array < 0).any() else ""
