"""Compares saved gradients by name: from another library, another device, another version.

A file is a plain safetensors file of floating arrays, so PyTorch writes one with
`safetensors.torch.save_file({name: p.grad for name, p in model.named_parameters()}, path)`.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinylm.engine.devices import to_numpy
from tinylm.errors import CheckpointError
from tinylm.files.atomic import write_atomically
from tinylm.files.safetensors_files import open_safetensors, serialize
from tinylm.nn import Module
from tinylm.verify.compared_arrays import TOLERANCES, compared_arrays, mismatches, missing, tied_names
from tinylm.verify.reports import Report, Row

Gradients = Module | Mapping[str, Any] | str | Path


def save_gradients(gradients: Gradients, path: str | Path) -> None:
    """Writes the gradients of a model's parameters, after backward, or arrays by name.

    Raises CheckpointError if there are none, or if the file cannot be written.
    """
    arrays = _arrays(gradients)
    if not arrays:
        raise CheckpointError(f"no gradients to save to {path}: call backward first")
    write_atomically(Path(path), serialize(arrays))


def compare_gradients(ours: Gradients, theirs: Gradients, *, tolerance: float | None = None, tied: Iterable[frozenset[str]] = ()) -> Report:
    """Compares gradients by name with trusted ones: models (after backward), mappings of arrays, or safetensors files.

    A name that is missing on one side and a shape that differs are failures in the list; all others are
    compared. tolerance: 1e-10 if all arrays of both sides are float64, else 1e-5.
    tied: the names of each parameter that has several, besides those of a model that is given. If the other side has
    a gradient for each of the names, that is a failure, and their sum is compared.
    Raises CheckpointError for a file that cannot be read.
    """
    a, b = _arrays(ours), _arrays(theirs)
    ties = set(tied).union(*(tied_names(side.named_state()) for side in (ours, theirs) if isinstance(side, Module)))
    apart = [row for names in sorted(ties, key=sorted) for row in _join(names, a, b)]
    if tolerance is None:
        tolerance = TOLERANCES["float64" if all(x.dtype == np.float64 for x in (*a.values(), *b.values())) else "float32"]
    wrong = mismatches({k: x.shape for k, x in a.items()}, {k: x.shape for k, x in b.items()}, "the other")
    skipped = {row.name for row in wrong}
    rows = compared_arrays([(k, x, b[k]) for k, x in a.items() if k not in skipped], ("tinylm", "the other"))
    return Report(f"gradients of {_name(ours)} against {_name(theirs)}", tolerance, (*apart, *wrong, *rows))


def _join(names: frozenset[str], *sides: dict[str, np.ndarray]) -> list[Row]:
    """Puts the gradient of a tied parameter under one of its names on both sides; returns a failure if one side has several for it."""
    name = next((name for side in sides for name in side if name in names), "")
    several = False
    for side in sides:
        found = {each: side[each] for each in sorted(names) if each in side}
        if set(found) <= {name} or len({g.shape for g in found.values()}) > 1:
            continue
        first, *others = found.values()
        if not all(np.array_equal(first, g, equal_nan=True) for g in others):  # else one gradient under all its names
            several, first = True, np.sum(list(found.values()), axis=0)
        for each in found:
            del side[each]
        side[name] = first
    title, detail = f"tie of {' and '.join(sorted(names))}", "one parameter on one side, several on the other: their sum is compared"
    return [missing(title, detail)] if several else []


def _arrays(gradients: Gradients) -> dict[str, np.ndarray]:
    """Returns the arrays by name. Raises CheckpointError for a file that is missing, damaged or of a dtype that NumPy lacks."""
    if isinstance(gradients, (str, Path)):
        file = open_safetensors(Path(gradients))
        try:
            return {name: tensor.array() for name, tensor in file.tensors.items()}
        except ValueError as error:
            raise CheckpointError(f"{gradients} cannot be compared: {error}") from error
    if isinstance(gradients, Module):
        gradients = {name: p.grad for name, p in gradients.named_parameters() if p.grad is not None}
    return {name: to_numpy(getattr(g, "data", g)) if not isinstance(g, np.ndarray) else g for name, g in gradients.items()}


def _name(gradients: Gradients) -> str:
    if isinstance(gradients, Module):
        return type(gradients).__name__
    return str(gradients) if isinstance(gradients, (str, Path)) else f"{len(gradients)} arrays"
