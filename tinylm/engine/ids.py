"""Ids: integers that must lie in a range, checked without stalling a GPU."""

import numpy as np

from tinylm.checks import check_integer
from tinylm.engine.arrays import Array, array_module
from tinylm.errors import RangeError, ShapeError

# (device, what, size) of each check made on a GPU -> the largest id since a value was last copied from there
_largest: dict[tuple[int, str, int], Array] = {}


def check_ids(ids: Array, size: int, what: str) -> None:
    """Raises RangeError unless ids are integers in [0, size); `what` names them in the message.

    Reading ids from a GPU would stall it. They are checked there, and the error is raised with the next
    value that is copied to the host, which waits for the GPU anyway. Until then kernels may get such
    ids, and must still stay within their arrays.
    """
    if not hasattr(ids, "dtype") or ids.dtype.kind not in "iu":
        raise ShapeError(f"{what} must be an array of integers, got {getattr(ids, 'dtype', type(ids).__name__)}")
    if ids.size == 0:
        return
    if isinstance(ids, np.ndarray):
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= size:
            raise RangeError(f"{what} {low if low < 0 else high} is out of range: expected 0 to {size - 1}")
        return
    largest = ids.astype(np.int64, copy=False).view(np.uint64).max()  # a negative number is a huge one
    key = (ids.device.id, what, size)
    if key in _largest:
        largest = array_module(largest).maximum(_largest[key], largest)
    _largest[key] = largest


def padding_row(padding_idx: int, rows: int) -> int:
    """Returns which row of a table padding_idx is, which counts from the end if it is negative.

    Raises RangeError if the table has no such row, ConfigError if it is no integer.
    """
    if type(padding_idx) is not int:
        padding_idx = check_integer("embedding: padding_idx", padding_idx)
    if not -rows <= padding_idx < rows:
        raise RangeError(f"embedding: padding_idx {padding_idx} is out of range: expected {-rows} to {rows - 1}")
    return padding_idx % rows


def raise_found() -> None:
    """Raises RangeError for the first check on a GPU that found an id out of range."""
    checks = [(what, size, largest.get()) for (_, what, size), largest in _largest.items()]
    _largest.clear()
    for what, size, largest in checks:
        if largest >= size:
            raise RangeError(f"{what} {int(largest.view(np.int64))} is out of range: expected 0 to {size - 1}")
