"""The names of an optimiser's parameters, and whether a stored state fits the optimiser that is to go on from it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tinylm.checks import shown
from tinylm.errors import CheckpointError, ConfigError, listed


def checked_names(names: Sequence[Any]) -> list[str]:
    """Returns the parameters' names, numbers as text. Raises ConfigError if only some have names, or one is no text or given twice."""
    unnamed = [type(name) is int for name in names]
    if any(unnamed) and not all(unnamed):
        named = next(name for name in names if type(name) is not int)
        raise ConfigError(f"parameter {unnamed.index(True)} of the optimiser has no name, {shown(named)} has one: expected all or none")
    for k, name in enumerate(names):
        if not isinstance(name, str | int):
            raise ConfigError(f"the name of parameter {k} of the optimiser is {shown(name)}: expected a text")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"two parameters of the optimiser have the name {shown(twice)}")
    return [str(name) for name in names]


def by_name(state: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Returns a state whose arrays are "<state>.NAME" of the parameters `names`; one that has their numbers in the place of names, as
    all had before parameters could have names, is renamed."""
    steps = {key for key in state if key.startswith("step.")}
    if steps != {f"step.{k}" for k in range(len(names))} or steps == {f"step.{name}" for name in names}:
        return dict(state)  # names that are numbers too, in whatever order, are names

    def renamed(key: str) -> str:
        kind, _, number = key.rpartition(".")
        known = number.isascii() and number.isdigit() and int(number) < len(names) and kind != "lr"
        return f"{kind}.{names[int(number)]}" if known else key

    return {renamed(key): array for key, array in state.items()}


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
    if name.startswith("lr.") and array < 0:
        return f"{name!r} is {array}, expected at least 0"
    return f"{name!r} has negative squares" if squares and name.startswith(squares) and (array < 0).any() else ""
