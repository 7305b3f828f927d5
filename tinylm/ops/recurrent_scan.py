"""The common parts of the recurrent ops: the order of the steps, sequences of several lengths, products over whole sequences."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinylm.engine.arrays import Array, array_module
from tinylm.engine.products import matmul_now
from tinylm.errors import ShapeError


class Scan:
    """The order of the steps, and the batch sorted by falling length: the sequences that are still running at
    step t are the first n rows, and the others keep their state, so the last state is the final
    one. `steps` lists (t, n)."""

    def __init__(self, x: Array, hidden: int, reverse: bool, lengths: Any) -> None:
        steps, batch = x.shape[:2]
        self.xp = xp = array_module(x)
        self.matmul = matmul_now(xp)  # for the products of the forward and the backward pass
        self.batch, self.hidden, self.reverse = batch, hidden, reverse
        counts = [batch] * steps
        self.order: Any = None
        if lengths is not None:
            lengths = _checked_lengths(lengths, steps, batch)
            order = np.argsort(-lengths, kind="stable")
            running = np.arange(steps)[:, None] < lengths[order]
            counts = running.sum(axis=1).tolist()
            self.order, self.back = xp.asarray(order), xp.asarray(np.argsort(order))
            self.running = xp.asarray(running[:, :, None])
        self.steps = list(enumerate(counts))[:: -1 if reverse else 1]

    def sorted(self, a: Array) -> Array:
        """Returns a sequence (T, N, C), 0 beyond its length, or a state (N, C), in sorted order."""
        if self.order is None:
            return a
        return a[self.order] if a.ndim == 2 else self.xp.where(self.running, a[:, self.order], 0)

    def restored(self, a: Array) -> Array:
        """Returns the same in the caller's order."""
        if self.order is None:
            return a
        return a[self.back] if a.ndim == 2 else self.xp.where(self.running, a, 0)[:, self.back]

    def states(self, first: Array | None, like: Array) -> tuple[Array, Array]:
        """Returns (before, after), (T, N, H) each: two views of one buffer, one step apart, so that what is
        written to after[t] is before[the next step]."""
        steps, batch = like.shape[:2]
        buffer = self.xp.empty((steps + 1, batch, self.hidden), like.dtype)
        before, after = (buffer[1:], buffer[:-1]) if self.reverse else (buffer[:-1], buffer[1:])
        before[self.steps[0][0]] = 0 if first is None else self.sorted(first)
        return before, after

    def final(self, states: Array) -> Array:
        """Returns the states after the last step, (N, H), in the caller's order."""
        return self.restored(states[self.steps[-1][0]].copy())


def _checked_lengths(lengths: Any, steps: int, batch: int) -> np.ndarray:
    lengths = np.asarray(lengths)
    if lengths.shape != (batch,) or lengths.dtype.kind not in "iu":
        raise ShapeError(f"lengths have dtype {lengths.dtype} and shape {lengths.shape}, expected {batch} integers")
    for n in lengths:
        if not 1 <= n <= steps:
            raise ShapeError(f"length {n} is out of range: expected 1 to {steps}, the steps of x")
    return lengths.astype(np.int64)


def check_shapes(name: str, gates: int, x: Array, weight_ih: Array, weight_hh: Array, biases: Any, states: Any) -> None:
    """Raises ShapeError unless everything fits x (T, N, in), T > 0, and weight_hh (gates H, H)."""
    if x.ndim != 3 or x.shape[0] == 0:
        raise ShapeError(f"{name}: x has shape {x.shape}, expected (steps, batch, features) with at least one step")
    hidden = weight_hh.shape[-1]
    rows = gates * hidden
    expected: list[tuple[str, Array, tuple[int, ...]]] = [("weight_ih", weight_ih, (rows, x.shape[2]))]
    expected += [("weight_hh", weight_hh, (rows, hidden))]
    expected += [("a bias", b, (rows,)) for b in biases]
    expected += [("an initial state", s, (x.shape[1], hidden)) for s in states]
    for what, array, shape in expected:
        if array is not None and array.shape != shape:
            raise ShapeError(f"{name}: {what} has shape {array.shape}, expected {shape}, with x {x.shape} and {hidden} hidden units")


def _rows(x: Array) -> Array:
    """Returns x (T, N, C) as a matrix (T N, C)."""
    return x.reshape(x.shape[0] * x.shape[1], x.shape[2])


def input_products(scan: Scan, x: Array, weight: Array, *biases: Array | None) -> Array:
    """Returns W x_t + biases for every step: (T, N, rows of W)."""
    y = scan.matmul(_rows(x), weight.T)
    for bias in biases:
        if bias is not None:
            y += bias
    return y.reshape(*x.shape[:2], weight.shape[0])


def gradients(
    scan: Scan, x: Array, h_before: Array, da: Array, ds: Array, weight_ih: Array, biases: Sequence[Any], states: Sequence[Any]
) -> tuple[Array | None, ...]:
    """Returns what a vjp returns: the gradients of x, both weights, both biases and the initial states, None for missing ones.

    With a_t = W_ih x_t + b_ih and s_t = W_hh h_{t-1} + b_hh: da and ds are their gradients at all steps, (T, N, gates H);
    states: the gradients of the initial states. Each sum over the steps is one product over all T N rows.
    """
    xp, matmul = scan.xp, scan.matmul
    return (
        scan.restored(matmul(_rows(da), weight_ih).reshape(x.shape)),  # dx_t = da_t W_ih
        matmul(_rows(da).T, _rows(x)),  # dW_ih = Σ da_tᵀ x_t
        matmul(_rows(ds).T, _rows(h_before)),  # dW_hh = Σ ds_tᵀ h_{t-1}
        *(None if bias is None else xp.sum(d, axis=(0, 1)) for d, bias in zip((da, ds), biases, strict=True)),
        *(None if state is None else scan.restored(state) for state in states),
    )
