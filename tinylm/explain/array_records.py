"""Arrays as web pages show them: statistics, the elements of a small one, a heat map of a larger one; each array once."""

import base64
from typing import Any

import numpy as np

from tinylm.engine.array_summaries import as_matrix, block, cells, statistics, strengths
from tinylm.engine.arrays import Array
from tinylm.engine.devices import to_numpy
from tinylm.explain.array_text import is_small


class ArrayRecords:
    """The arrays of a page, numbered. An array that occurs twice has one number."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self._numbers: dict[int, int] = {}
        self._kept: list[Any] = []  # as long as an array lives, its id belongs to no other

    def add(self, array: Array | None) -> int | None:
        """Returns the array's number; None for None."""
        if array is None:
            return None
        if id(array) not in self._numbers:
            self._numbers[id(array)] = len(self.records)
            self._kept.append(array)
            self.records.append(record_of(to_numpy(array)))
        return self._numbers[id(array)]


def record_of(array: np.ndarray) -> dict[str, Any]:
    """Returns shape, norm, mean, min and max; and the elements as `values`, or a `map`."""
    record: dict[str, Any] = {"shape": array.shape, **statistics(array)}
    if is_small(array):
        return {**record, "values": array.tolist()}
    return {**record, "map": _map(array)}


def _map(array: np.ndarray) -> dict[str, Any]:
    """Returns the heat map of `cells`: rows, columns, how many of the array's rows and columns one cell stands for, and one byte
    per cell, 128 ± 127 times its strength; 0 for what is not finite. power: the strength to this power is |x| / largest."""
    values = cells(array)
    level, largest = strengths(values)
    levels = np.where(np.isfinite(values), 128 + np.copysign(127 * level, values).round(), 0).astype(np.uint8)
    data = base64.b64encode(levels.tobytes()).decode()
    return {
        "rows": values.shape[0],
        "columns": values.shape[1],
        "of": as_matrix(array).shape,
        "block": block(array),
        "largest": largest,
        "power": 2 if (values < 0).any() else 1,
        "cells": data,
    }
