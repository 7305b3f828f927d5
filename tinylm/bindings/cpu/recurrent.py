"""Recurrent layers, as in tinylm/ops/recurrent.py: one call for a whole sequence in each direction."""

import ctypes

import numpy as np

from tinylm.bindings.activation_numbers import RNN_NONLINEARITIES
from tinylm.bindings.cpu.library import LARGEST, Struct, address, call, contiguous, library
from tinylm.engine.kernels import kernel
from tinylm.engine.products import products_mode
from tinylm.ops.recurrent_scan import Scan, check_shapes


class RecurrentSizes(Struct):
    _fields_ = (*((name, ctypes.c_int64) for name in ("steps", "batch", "inputs", "hidden", "reverse")), ("running", ctypes.c_void_p))


def _served(x, weight_ih):
    return max(x.shape[0] * x.shape[1], *weight_ih.shape) <= LARGEST and library() is not None


class _Layer:
    """The sizes and arrays of a call as the kernels take them, and the arrays that they fill. If the sequences differ in length, the
    rows that do not run at a step are never written: they stay zeros, so that they add nothing to products over all rows."""

    def __init__(self, x, weight_ih, weight_hh, biases, reverse, lengths):
        self.scan = Scan(x, weight_hh.shape[1], reverse, lengths)
        (self.steps, self.batch, inputs), self.hidden, self.reverse = x.shape, weight_hh.shape[1], bool(reverse)
        self.lengths = self.running = None
        if lengths is not None:
            self.running = np.array([n for _, n in sorted(self.scan.steps)], np.int64)
            self.lengths = (np.arange(self.batch)[:, None] < self.running).sum(axis=1)  # of the sorted rows
        self.x, self.weights = contiguous(self.scan.sorted(x)), [contiguous(a) for a in (weight_ih, weight_hh)]
        self.biases = [None if b is None else contiguous(b) for b in biases]
        running = None if self.running is None else address(self.running)
        sizes = RecurrentSizes(
            steps=self.steps, batch=self.batch, inputs=inputs, hidden=self.hidden, reverse=self.reverse, running=running
        )  # fmt: skip
        self.front = sizes, products_mode.rounded, self.x, *self.weights

    def blocks(self, count):
        """Returns an array (T, N, count H) for the kernel to fill."""
        return self._array(self.steps, self.batch, count * self.hidden)

    def states(self, first):
        """Returns (T + 1, N, H) with the initial state where each row begins, zeros if it is None."""
        states = self._array(self.steps + 1, self.batch, self.hidden)
        if self.lengths is not None and self.reverse:
            states[self.lengths, np.arange(self.batch)] = 0 if first is None else self.scan.sorted(first)
        else:
            states[-1 if self.reverse else 0] = 0 if first is None else self.scan.sorted(first)
        return states

    def _array(self, *shape):
        return (np.empty if self.lengths is None else np.zeros)(shape, np.float32)

    def outputs(self, states):
        """Returns the states after each step, (T, N, H), and the state after the last step of each row."""
        after = states[:-1] if self.reverse else states[1:]
        if self.lengths is not None and not self.reverse:
            last = after[self.lengths - 1, np.arange(self.batch)]
        else:
            last = after[0 if self.reverse else -1].copy()
        return self.scan.restored(after), self.scan.restored(last)

    def received(self, dy, *dstates):
        """Returns the cotangents; those of the states are copies, which the kernel overwrites."""
        return [contiguous(self.scan.sorted(dy)), *(np.array(self.scan.sorted(d), np.float32, order="C") for d in dstates)]

    def gradients(self):
        """Returns empty arrays for those of x, the weights and the biases."""
        return [None if a is None else np.empty(a.shape, np.float32) for a in (self.x, *self.weights, *self.biases)]

    def given(self, gradients, *dstates):
        """Returns the gradients as the op does; that of a state is None if the state was."""
        dx, *others = gradients
        return (self.scan.restored(dx), *others, *(None if d is None else self.scan.restored(d) for d in dstates))


@kernel("rnn", device="cpu")
def rnn(x, weight_ih, weight_hh, bias_ih=None, bias_hh=None, h0=None, /, *, nonlinearity="tanh", reverse=False, lengths=None):
    if nonlinearity not in RNN_NONLINEARITIES:
        return NotImplemented
    check_shapes("rnn", 1, x, weight_ih, weight_hh, (bias_ih, bias_hh), (h0,))
    if not _served(x, weight_ih):
        return NotImplemented
    number, layer = RNN_NONLINEARITIES[nonlinearity], _Layer(x, weight_ih, weight_hh, (bias_ih, bias_hh), reverse, lengths)
    states = layer.states(h0)
    call("rnn_forward", *layer.front, *layer.biases, number, states, layer.blocks(1))

    def vjp(dy, dh_n):
        (dy, dh), found = layer.received(dy, dh_n), layer.gradients()
        call("rnn_backward", *layer.front, number, states, dy, dh, layer.blocks(1), *found)
        return layer.given(found, None if h0 is None else dh)

    return layer.outputs(states), vjp


@kernel("lstm", device="cpu")
def lstm(x, weight_ih, weight_hh, bias_ih=None, bias_hh=None, h0=None, c0=None, /, *, reverse=False, lengths=None):
    check_shapes("lstm", 4, x, weight_ih, weight_hh, (bias_ih, bias_hh), (h0, c0))
    if not _served(x, weight_ih):
        return NotImplemented
    layer = _Layer(x, weight_ih, weight_hh, (bias_ih, bias_hh), reverse, lengths)
    states, cells, gates = layer.states(h0), layer.states(c0), layer.blocks(4)
    call("lstm_forward", *layer.front, *layer.biases, states, cells, gates)

    def vjp(dy, dh_n, dc_n):
        (dy, dh, dc), found = layer.received(dy, dh_n, dc_n), layer.gradients()
        call("lstm_backward", *layer.front, states, cells, gates, dy, dh, dc, layer.blocks(4), *found)
        return layer.given(found, None if h0 is None else dh, None if c0 is None else dc)

    return (*layer.outputs(states), layer.outputs(cells)[1]), vjp


@kernel("gru", device="cpu")
def gru(x, weight_ih, weight_hh, bias_ih=None, bias_hh=None, h0=None, /, *, reverse=False, lengths=None):
    check_shapes("gru", 3, x, weight_ih, weight_hh, (bias_ih, bias_hh), (h0,))
    if not _served(x, weight_ih):
        return NotImplemented
    layer = _Layer(x, weight_ih, weight_hh, (bias_ih, bias_hh), reverse, lengths)
    states, gates, s_n = layer.states(h0), layer.blocks(3), layer.blocks(1)
    call("gru_forward", *layer.front, *layer.biases, states, gates, s_n)

    def vjp(dy, dh_n):
        (dy, dh), found = layer.received(dy, dh_n), layer.gradients()
        call("gru_backward", *layer.front, states, gates, s_n, dy, dh, layer.blocks(4), *found)
        return layer.given(found, None if h0 is None else dh)

    return layer.outputs(states), vjp
