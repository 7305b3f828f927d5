"""What attention keeps from one decoding step to the next."""

import numpy as np

from tinylm import ops
from tinylm.engine.arrays import Array, array_module
from tinylm.engine.autograd import mode
from tinylm.engine.tensor import Tensor


class _Room:
    """Arrays with free places behind those that are taken; caches that were copied share them."""

    def __init__(self, keys: Array, values: Array, places: int) -> None:
        self.taken = 0
        self.arrays = [array_module(a).empty((*a.shape[:2], places, a.shape[3]), a.dtype) for a in (keys, values)]

    def put(self, keys: Array, values: Array) -> None:
        first, self.taken = self.taken, self.taken + keys.shape[2]
        for array, new in zip(self.arrays, (keys, values), strict=True):
            array[:, :, first : self.taken] = new


class KeyValueCache:
    """The keys (N, heads, S, D) and values (N, heads, S, E) of the S positions so far; both None while there are none.

    A step costs what is new, not what is there: there is room for as many positions again, and whoever
    writes first behind a position that copies share does so without copying. Where a gradient is recorded, the arrays
    are joined by ops instead.
    """

    def __init__(self, keys: Tensor | None = None, values: Tensor | None = None) -> None:
        self.keys, self.values = keys, values
        self._room: _Room | None = None

    @property
    def length(self) -> int:
        """S."""
        return 0 if self.keys is None else self.keys.shape[2]

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Takes up the keys and values of further positions, and returns all of them."""
        if self.keys is None or self.values is None:
            self.keys, self.values = keys, values
        elif mode.recording and any(x.requires_grad for x in (self.keys, self.values, keys, values)):
            self.keys, self.values = ops.concatenate([self.keys, keys], axis=2), ops.concatenate([self.values, values], axis=2)
        else:
            total = self.length + keys.shape[2]
            room = self._room
            if room is None or room.taken != self.length or total > room.arrays[0].shape[2]:
                room = self._room = _Room(self.keys.data, self.values.data, 2 * total)
                room.put(self.keys.data, self.values.data)
            room.put(keys.data, values.data)
            self.keys, self.values = (Tensor(a[:, :, :total]) for a in room.arrays)
        return self.keys, self.values

    def copy(self) -> "KeyValueCache":
        """One that goes on from here; this one stays as it is."""
        copied = KeyValueCache(self.keys, self.values)
        copied._room = self._room
        return copied

    def select(self, rows: np.ndarray) -> "KeyValueCache":
        """The one whose row i is this one's row rows[i]."""
        return KeyValueCache(*(None if x is None else x[rows] for x in (self.keys, self.values)))
