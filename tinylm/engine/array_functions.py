"""What NumPy and CuPy lack: one namespace for either of them, with the few functions that op bodies need besides."""

import importlib
import types
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = Any  # a numpy.ndarray or a cupy.ndarray; inside a re-run op body also a Tensor


class Namespace:
    """NumPy or CuPy, plus erf, erfc, sigmoid, scatter_add and index_add. A name is looked up once and then remembered."""

    def __init__(self, module: types.ModuleType, special: str) -> None:
        self.scatter_add = scatter_add_of(module)
        self.index_add = index_add
        self._module = module
        self._special = special  # where erf and the logistic function live

    def __getattr__(self, name: str) -> Any:
        special = {"erf": "erf", "erfc": "erfc", "sigmoid": "expit"}.get(name)
        value = getattr(self._module, name) if special is None else getattr(importlib.import_module(self._special), special)
        self.__dict__[name] = value
        return value


def is_basic_index(key: Any) -> bool:
    """Returns True if x[key] is a view: only integers, slices, None and Ellipsis."""
    parts = key if isinstance(key, tuple) else (key,)
    return all(
        p is None or p is Ellipsis or isinstance(p, slice) or (isinstance(p, (int, np.integer)) and p is not True and p is not False)
        for p in parts
    )


def scatter_add_of(xp: Any) -> Any:
    """Returns `scatter_add` for NumPy or CuPy."""

    def scatter_add(values: Array, key: Any, shape: tuple[int, ...]) -> Array:
        """Returns zeros of `shape` with `values` added at [key], repeated positions in a fixed order."""
        out = xp.zeros(shape, values.dtype)
        if is_basic_index(key):
            out[key] = values
        elif isinstance(key, xp.ndarray) and key.dtype.kind in "iu" and values.size:
            # Rows of a table: sort the ids, then one sum per run of equal ids (on a GPU, counting the runs waits).
            flat = key.reshape(-1) % shape[0]  # a negative index counts from the end
            rows = values.reshape(flat.size, -1)
            order = xp.argsort(flat, kind="stable")
            ids = flat[order]
            starts = xp.flatnonzero(xp.concatenate([xp.ones(1, bool), ids[1:] != ids[:-1]]))
            out.reshape(shape[0], -1)[ids[starts]] = xp.add.reduceat(rows[order], starts, axis=0)
        elif values.size:
            # Any other index: number the positions, then add to them as to rows of width 1.
            positions = xp.arange(out.size).reshape(shape)[key]
            flat_out = scatter_add(xp.broadcast_to(values, positions.shape).reshape(-1), positions.reshape(-1), (out.size,))
            out = flat_out.reshape(shape)
        return out

    return scatter_add


def index_add(a: Array, values: Array, key: Any) -> Array:
    """Returns a with `values` added at the distinct positions [key]; a itself may be overwritten."""
    a[key] += values
    return a
