"""Flat buffers: the parameters of a group in one array and their gradients in another.

A hundred small updates become one long one. Each parameter's `.data` becomes a view of the flat values, and the backward pass
writes its gradient straight into the flat gradients.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tinylm.engine.arrays import Array, array_module
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError, ShapeError

_ALIGNMENT = 64  # bytes: the alignment of a parameter must not depend on the run, or sums round differently


def _aligned_zeros(xp: Any, size: int, dtype: Any) -> Array:
    """Returns a 1-D array of zeros whose first element lies on a 64-byte boundary."""
    item = dtype.itemsize
    raw = xp.zeros(size + _ALIGNMENT // item, dtype)
    address = raw.ctypes.data if isinstance(raw, np.ndarray) else 0  # CuPy's memory begins at multiples of 512 bytes
    skip = (-address % _ALIGNMENT) // item
    return raw[skip : skip + size]


class FlatParameters:
    """Parameters of one dtype and device in one array; `grads` and the arrays of `state` have the same layout."""

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
        self.values = _aligned_zeros(xp, end, first.dtype)
        self.grads = _aligned_zeros(xp, end, first.dtype)
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
        """Adds an array of zeros of the same layout, such as a momentum."""
        self.state[name] = _aligned_zeros(array_module(self.values), self.values.size, self.values.dtype)

    def view(self, array: Array, index: int) -> Array:
        """Returns the part of a flat array that belongs to parameter `index`, in its shape."""
        return array[self.slices[index]].reshape(self.parameters[index].shape)

    def segments(self) -> Iterator[tuple[range, int]]:
        """Yields (indices, step count) of each longest run of adjacent parameters that have a gradient and the same
        number of updates; parameters without a gradient are left out."""
        for i, p in enumerate(self.parameters):
            if p.data is not self.views[i]:
                raise ConfigError(f"parameter {i} of shape {p.shape} was moved after the optimiser was made: make the optimiser last")
            if p.grad is not None and p.grad is not p.grad_buffer:
                assert p.grad_buffer is not None
                if (shape := getattr(p.grad, "shape", None)) != p.shape:  # it would be broadcast
                    raise ShapeError(f"parameter {i} has a gradient of shape {shape}, expected its own, {p.shape}")
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

    def span(self, members: range) -> slice:
        """Returns the slice of a flat array that holds adjacent parameters, with the padding that follows them."""
        stop = self.slices[members.stop].start if members.stop < len(self.slices) else self.values.size
        return slice(self.slices[members.start].start, stop)

    def advance(self) -> None:
        """Counts one more update of each parameter that has a gradient, and bumps its version."""
        for i, p in enumerate(self.parameters):
            if p.grad is not None:
                self.steps[i] += 1
                p.bump_version()
