"""Recurrent layers: as in tinylm/ops/recurrence.py, with one call a sequence each way.

Sequences of several lengths are the references'.
"""

import numpy as np

from tinylm.bindings.cpu.library import LARGEST, call, contiguous, library
from tinylm.kernel_registry import kernel
from tinylm.ops.recurrent_scan import check_shapes


def _served(x, weight_ih, lengths):
    return lengths is None and max(x.shape[0] * x.shape[1], *weight_ih.shape) <= LARGEST and library() is not None


def _states(first, steps, batch, hidden, reverse):
    """(T + 1, N, H) with the initial state in its place, zeros if None."""
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


def _like(*arrays):
    return [None if a is None else np.empty(a.shape, np.float32) for a in arrays]


@kernel("gru", device="cpu")
def gru(x, weight_ih, weight_hh, bias_ih=None, bias_hh=None, h0=None, /, *, reverse=False, lengths=None):
    check_shapes("gru", 3, x, weight_ih, weight_hh, (bias_ih, bias_hh), (h0,))
    if not _served(x, weight_ih, lengths):
        return NotImplemented
    (steps, batch, inputs), hidden = x.shape, weight_hh.shape[1]
    sizes = (steps, batch, inputs, hidden, bool(reverse))
    x_, w_ih, w_hh = contiguous(x), contiguous(weight_ih), contiguous(weight_hh)
    biases = [None if b is None else contiguous(b) for b in (bias_ih, bias_hh)]
    states = _states(h0, steps, batch, hidden, reverse)
    gates, s_n = np.empty((steps, batch, 3 * hidden), np.float32), np.empty((steps, batch, hidden), np.float32)
    call("gru_forward", *sizes, x_, w_ih, w_hh, *biases, states, gates, s_n)

    def vjp(dy, dh_n):
        dh = _copy(dh_n)
        found = _like(x, weight_ih, weight_hh, bias_ih, bias_hh)
        d = np.empty((steps, batch, 4 * hidden), np.float32)
        call("gru_backward", *sizes, x_, w_ih, w_hh, states, gates, s_n, contiguous(dy), dh, d, *found)
        return (*found, None if h0 is None else dh)

    return _outputs(states, reverse), vjp
