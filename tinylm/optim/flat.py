"""Flat buffers: the parameters of a group in one array, their gradients in another.

A hundred small updates become one long one. Each parameter's `.data` becomes a view of the flat
values, and backward writes its gradient straight into the flat gradients.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tinylm.engine.arrays import Array, array_module
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError

_ALIGNMENT = 64  # bytes: where a parameter starts must not depend on the run, or sums round differently


def aligned_zeros(xp: Any, size: int, dtype: Any) -> Array:
    """A zeroed 1-D array whose first element lies on a 64-byte boundary."""
    item = dtype.itemsize
    raw = xp.zeros(size + _ALIGNMENT // item, dtype)
    address = raw.ctypes.data if isinstance(raw, np.ndarray) else 0  # CuPy's memory begins at multiples of 512 bytes
    skip = (-address % _ALIGNMENT) // item
    return raw[skip : skip + size]


class FlatParameters:
    """Parameters of one dtype and device, packed; `state` arrays of the same layout beside them."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        first = parameters[0].data
        xp = array_module(first)
        step = _ALIGNMENT // first.dtype.itemsize
        self.parameters = list(parameters)
        self.slices = []
        end = 0
        for p in parameters:
            self.slices.append(slice(end, end + p.size))
            end += math.ceil(p.size / step) * step
        self.values = aligned_zeros(xp, end, first.dtype)
        self.grads = aligned_zeros(xp, end, first.dtype)
        self.steps = [0] * len(self.parameters)  # updates each parameter has had
        self.state: dict[str, Array] = {}
        self.views = []
        for p, at in zip(self.parameters, self.slices, strict=True):
            self.values[at] = p.data.reshape(-1)
            p.data = self.values[at].reshape(p.shape)
            p.grad_buffer = self.grads[at].reshape(p.shape)
            if p.grad is not None:
                p.grad_buffer[...] = p.grad
                p.grad = p.grad_buffer
            self.views.append(p.data)

    def add_state(self, name: str) -> None:
        """A zeroed array of the same layout, such as a momentum."""
        self.state[name] = aligned_zeros(array_module(self.values), self.values.size, self.values.dtype)

    def view(self, array: Array, index: int) -> Array:
        """The part of a flat array that belongs to parameter `index`, in its shape."""
        return array[self.slices[index]].reshape(self.parameters[index].shape)

    def ready(self) -> Iterator[tuple[range, int]]:
        """(which parameters, step count) for each longest stretch of neighbours that have a gradient
        and as many updates behind them; parameters without a gradient are left out."""
        for i, p in enumerate(self.parameters):
            if p.data is not self.views[i]:
                raise ConfigError(f"parameter {i} of shape {p.shape} was moved after the optimiser was made: make the optimiser last")
            if p.grad is not None and p.grad is not p.grad_buffer:
                assert p.grad_buffer is not None
                p.grad_buffer[...] = p.grad
                p.grad = p.grad_buffer
        i = 0
        while i < len(self.parameters):
            if self.parameters[i].grad is None:
                i += 1
                continue
            start = i
            while i < len(self.parameters) and self.parameters[i].grad is not None and self.steps[i] == self.steps[start]:
                i += 1
            yield range(start, i), self.steps[start]

    def stretch(self, members: range) -> slice:
        """Where neighbouring parameters lie, the padding behind them included."""
        stop = self.slices[members.stop].start if members.stop < len(self.slices) else self.values.size
        return slice(self.slices[members.start].start, stop)

    def advance(self) -> None:
        """Counts one more update of each parameter that has a gradient, and marks it as written."""
        for i, p in enumerate(self.parameters):
            if p.grad is not None:
                self.steps[i] += 1
                p.bump_version()


def pack(parameters: Sequence[Tensor]) -> list[FlatParameters]:
    """One FlatParameters for each dtype and device among the parameters."""
    kinds: dict[tuple[str, str], list[Tensor]] = {}
    for p in parameters:
        kinds.setdefault((p.dtype.name, p.device), []).append(p)
    return [FlatParameters(members) for members in kinds.values()]
