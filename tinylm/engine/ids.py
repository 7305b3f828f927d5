"""Ids: integers that must lie in a range, checked without stalling a GPU."""

import importlib

import numpy as np

from tinylm.checks import check_integer
from tinylm.engine.arrays import Array, array_module
from tinylm.errors import RangeError, ShapeError


class _Checks:
    """The checks of ids on one GPU: for each (what, size) a place there for the largest id, as an unsigned number, so that a negative id is
    a huge one. All places are one array, which one copy brings to the host."""

    def __init__(self, ids: Array, count: int = 16) -> None:
        self.largest = array_module(ids).zeros(count, np.uint64)
        self.on_host = importlib.import_module("cupyx").zeros_pinned(count, np.uint64)  # pinned: a copy to it waits for nothing
        self.places: dict[tuple[str, int], Array] = {}

    def place(self, what: str, size: int) -> Array:
        """Returns the place of a check, (1,): a view."""
        found = self.places.get((what, size))
        if found is None:
            i = len(self.places)
            if i == self.largest.size:
                more = _Checks(self.largest, 2 * i)
                more.largest[:i] = self.largest
                self.largest, self.on_host = more.largest, more.on_host
                self.places = {key: self.largest[k : k + 1] for k, key in enumerate(self.places)}
            found = self.places[what, size] = self.largest[i : i + 1]
        return found


_checks: dict[int, _Checks] = {}  # by GPU


def check_ids(ids: Array, size: int, what: str) -> None:
    """Raises RangeError unless ids are integers in [0, size); `what` names them in the message.

    Reading ids from a GPU would stall it. They are checked there, and the error is raised with the next
    value that is copied from there to the host, which waits for the GPU anyway. Until then kernels may get such
    ids, and must still stay within their arrays.
    """
    _check_integers(ids, what)
    if ids.size == 0:
        return
    if isinstance(ids, np.ndarray):
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= size:
            raise RangeError(f"{what} {low if low < 0 else high} is out of range: expected 0 to {size - 1}")
        return
    place = _place(ids, size, what)
    array_module(ids).maximum(place, ids.astype(np.int64, copy=False).view(np.uint64).max(), out=place)


def place_of_check(ids: Array, size: int, what: str) -> Array:
    """Returns where a kernel that reads ids on a GPU reports those outside [0, size), by `atomicMax`: one uint64 there, (1,). The error is
    raised as by `check_ids`, without a launch of its own. Raises ShapeError unless ids are integers."""
    _check_integers(ids, what)
    return _place(ids, size, what)


def _check_integers(ids: Array, what: str) -> None:
    if not hasattr(ids, "dtype") or ids.dtype.kind not in "iu":
        raise ShapeError(f"{what} must be an array of integers, got {getattr(ids, 'dtype', type(ids).__name__)}")


def _place(ids: Array, size: int, what: str) -> Array:
    device = ids.device.id
    if device not in _checks:
        _checks[device] = _Checks(ids)
    return _checks[device].place(what, size)


def padding_row(padding_idx: int, rows: int) -> int:
    """Returns which row of a table padding_idx is, which counts from the end if it is negative.

    Raises RangeError if the table has no such row, ConfigError if it is no integer.
    """
    if type(padding_idx) is not int:
        padding_idx = check_integer("embedding: padding_idx", padding_idx)
    if not -rows <= padding_idx < rows:
        raise RangeError(f"embedding: padding_idx {padding_idx} is out of range: expected {-rows} to {rows - 1}")
    return padding_idx % rows


def to_host(array: Array) -> np.ndarray:
    """Returns a copy of an array on a GPU, and waits for the GPU: once, what checks of ids have found there arrives with it.

    Raises RangeError for the first check that found an id out of range, and forgets what all of them found.
    """
    checks = _checks.get(array.device.id)
    if checks is None:
        return array.get()
    checks.largest.get(out=checks.on_host, blocking=False)
    values = array.get()
    for (what, size), largest in zip(checks.places, checks.on_host.tolist(), strict=False):
        if largest >= size:
            checks.largest[...] = 0
            raise RangeError(f"{what} {largest - 2**64 if largest >= 2**63 else largest} is out of range: expected 0 to {size - 1}")
    return values
