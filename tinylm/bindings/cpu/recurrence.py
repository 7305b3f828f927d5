"""Recurrent layers: as in tinylm/ops/recurrence.py, with one call a sequence each way.

Sequences of several lengths are the references'.
"""

import numpy as np

from tinylm.bindings.cpu.library import LARGEST, call, contiguous, library
from tinylm.kernel_registry import kernel
from tinylm.ops.recurrent_scan import check_shapes

_NONLINEARITIES = ("tanh", "relu", "sigmoid")  # the place is the kernel's number


def _served(x, weight_ih, lengths):
    return lengths is None and max(x.shape[0] * x.shape[1], *weight_ih.shape) <= LARGEST and library() is not None


def _room(sizes, blocks):
    """(T, N, blocks H), for the kernel to fill."""
    steps, batch, _, hidden, _ = sizes
    return np.empty((steps, batch, blocks * hidden), np.float32)


def _states(first, sizes):
    """(T + 1, N, H) with the initial state in its place, zeros if None."""
    steps, batch, _, hidden, reverse = sizes
    states = np.empty((steps + 1, batch, hidden), np.float32)
    states[-1 if reverse else 0] = 0 if first is None else first
    return states


def _outputs(states, reverse):
    """What the steps leave, (T, N, H), and a copy of what the last one left."""
    after = states[:-1] if reverse else states[1:]
    return after, after[0 if reverse else -1].copy()


def _copy(dy):
    """A cotangent that the kernel overwrites."""
    return np.array(dy, np.float32, order="C")


def _prepared(x, weight_ih, weight_hh, biases, reverse):
    """The leading arguments of every kernel: the sizes; x and weights; biases."""
    sizes = (*x.shape, weight_hh.shape[1], bool(reverse))
    return sizes, [contiguous(a) for a in (x, weight_ih, weight_hh)], [None if b is None else contiguous(b) for b in biases]


def _like(*arrays):
    return [None if a is None else np.empty(a.shape, np.float32) for a in arrays]


@kernel("rnn", device="cpu")
def rnn(x, weight_ih, weight_hh, bias_ih=None, bias_hh=None, h0=None, /, *, nonlinearity="tanh", reverse=False, lengths=None):
    if nonlinearity not in _NONLINEARITIES:
        return NotImplemented
    check_shapes("rnn", 1, x, weight_ih, weight_hh, (bias_ih, bias_hh), (h0,))
    if not _served(x, weight_ih, lengths):
        return NotImplemented
    number = _NONLINEARITIES.index(nonlinearity)
    sizes, arrays, biases = _prepared(x, weight_ih, weight_hh, (bias_ih, bias_hh), reverse)
    states = _states(h0, sizes)
    call("rnn_forward", *sizes, *arrays, *biases, number, states, _room(sizes, 1))

    def vjp(dy, dh_n):
        dh, found = _copy(dh_n), _like(x, weight_ih, weight_hh, bias_ih, bias_hh)
        call("rnn_backward", *sizes, *arrays, number, states, contiguous(dy), dh, _room(sizes, 1), *found)
        return (*found, None if h0 is None else dh)

    return _outputs(states, reverse), vjp


@kernel("lstm", device="cpu")
def lstm(x, weight_ih, weight_hh, bias_ih=None, bias_hh=None, h0=None, c0=None, /, *, reverse=False, lengths=None):
    check_shapes("lstm", 4, x, weight_ih, weight_hh, (bias_ih, bias_hh), (h0, c0))
    if not _served(x, weight_ih, lengths):
        return NotImplemented
    sizes, arrays, biases = _prepared(x, weight_ih, weight_hh, (bias_ih, bias_hh), reverse)
    states, cells, gates = _states(h0, sizes), _states(c0, sizes), _room(sizes, 4)
    call("lstm_forward", *sizes, *arrays, *biases, states, cells, gates)

    def vjp(dy, dh_n, dc_n):
        dh, dc, found = _copy(dh_n), _copy(dc_n), _like(x, weight_ih, weight_hh, bias_ih, bias_hh)
        call("lstm_backward", *sizes, *arrays, states, cells, gates, contiguous(dy), dh, dc, _room(sizes, 4), *found)
        return (*found, None if h0 is None else dh, None if c0 is None else dc)

    return (*_outputs(states, reverse), _outputs(cells, reverse)[1]), vjp


@kernel("gru", device="cpu")
def gru(x, weight_ih, weight_hh, bias_ih=None, bias_hh=None, h0=None, /, *, reverse=False, lengths=None):
    check_shapes("gru", 3, x, weight_ih, weight_hh, (bias_ih, bias_hh), (h0,))
    if not _served(x, weight_ih, lengths):
        return NotImplemented
    sizes, arrays, biases = _prepared(x, weight_ih, weight_hh, (bias_ih, bias_hh), reverse)
    states, gates, s_n = _states(h0, sizes), _room(sizes, 3), _room(sizes, 1)
    call("gru_forward", *sizes, *arrays, *biases, states, gates, s_n)

    def vjp(dy, dh_n):
        dh, found = _copy(dh_n), _like(x, weight_ih, weight_hh, bias_ih, bias_hh)
        call("gru_backward", *sizes, *arrays, states, gates, s_n, contiguous(dy), dh, _room(sizes, 4), *found)
        return (*found, None if h0 is None else dh)

    return _outputs(states, reverse), vjp
