"""What attention keeps from one decoding step to the next."""

from tinylm import ops
from tinylm.engine.arrays import Array, array_module
from tinylm.engine.autograd import mode
from tinylm.engine.tensor import Tensor


class _Buffers:
    """Arrays for `capacity` positions, of which the first `used` are filled; copies of a cache use the same ones."""

    def __init__(self, keys: Array, values: Array, capacity: int) -> None:
        self.used = 0
        self.arrays = [array_module(a).empty((*a.shape[:2], capacity, a.shape[3]), a.dtype) for a in (keys, values)]

    def append(self, keys: Array, values: Array) -> None:
        first, self.used = self.used, self.used + keys.shape[2]
        for array, new in zip(self.arrays, (keys, values), strict=True):
            array[:, :, first : self.used] = new


class KeyValueCache:
    """The keys (N, heads, S, D) and values (N, heads, S, E) of the S positions so far; both None at the start.

    A step costs time for the new positions only: a buffer that is full is replaced by one of twice the length. Caches
    that were copied from each other use one buffer, and the first that appends to it does so without copying.
    Where a gradient is recorded, the arrays are joined by ops instead.
    """

    def __init__(self, keys: Tensor | None = None, values: Tensor | None = None) -> None:
        self.keys, self.values = keys, values
        self._buffers: _Buffers | None = None

    @property
    def length(self) -> int:
        """S, the number of positions."""
        return 0 if self.keys is None else self.keys.shape[2]

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Appends the keys and values of further positions, and returns all of them."""
        if self.keys is None or self.values is None:
            self.keys, self.values = keys, values
        elif mode.recording and any(x.requires_grad for x in (self.keys, self.values, keys, values)):
            self.keys, self.values = ops.concatenate([self.keys, keys], axis=2), ops.concatenate([self.values, values], axis=2)
        else:
            total = self.length + keys.shape[2]
            buffers = self._buffers
            if buffers is None or buffers.used != self.length or total > buffers.arrays[0].shape[2]:
                buffers = self._buffers = _Buffers(self.keys.data, self.values.data, 2 * total)
                buffers.append(self.keys.data, self.values.data)
            buffers.append(keys.data, values.data)
            self.keys, self.values = (Tensor(a[:, :, :total]) for a in buffers.arrays)
        return self.keys, self.values

    def copy(self) -> "KeyValueCache":
        """Returns a cache that can be extended without changing this one."""
        copied = KeyValueCache(self.keys, self.values)
        copied._buffers = self._buffers
        return copied

    def select(self, rows: Array) -> "KeyValueCache":
        """Returns a cache whose row i is this one's row rows[i], rows on the cache's device."""
        return KeyValueCache(*(None if x is None else x[rows] for x in (self.keys, self.values)))
