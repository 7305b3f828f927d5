"""Recurrent layers, as in tinylm/ops/recurrent.py: one launch per direction if the layer fits on the GPU (sequences.py), else one launch
per step beside its matrix product.

Nothing here waits for the GPU: the order of the steps is known on the host, lengths included.
"""

from tinylm.bindings.activation_numbers import RNN_NONLINEARITIES
from tinylm.bindings.cuda import sequences
from tinylm.bindings.cuda.launching import CudaSource, contiguous
from tinylm.bindings.cuda.rounding import operand_now
from tinylm.engine.kernels import kernel
from tinylm.engine.products import products_mode
from tinylm.ops.recurrent_scan import Scan, check_shapes, gradients, input_products

_RNN, _LSTM, _GRU = CudaSource("rnn"), CudaSource("lstm"), CudaSource("gru")
_THREADS = (256,)


def _blocks(states):
    """Returns the grid with one thread for each element of states (N, H)."""
    return (-(-states.size // _THREADS[0]),)


def _plans(scan, weight, gates):
    """Returns the plans of the forward and the backward pass, None for one launched step by step, and whether operands are rounded."""
    card = sequences.card_of(weight)
    forward, backward = (sequences.plan(card, scan.batch, scan.hidden, gates, backward) for backward in (False, True))
    return forward, backward, products_mode.rounded


def _received(scan, dtype, dy, *finals):
    """Returns the cotangents of a layer in sorted order; those of the final states are copies, which the kernel overwrites."""
    copies = [scan.xp.array(scan.sorted(d), dtype, order="C") for d in finals]
    return contiguous(scan.sorted(dy), dtype), *copies


@kernel("rnn", device="cuda", floats_only=True)
def rnn(x, weight_ih, weight_hh, bias_ih=None, bias_hh=None, h0=None, /, *, nonlinearity="tanh", reverse=False, lengths=None):
    if nonlinearity not in RNN_NONLINEARITIES:
        return NotImplemented
    check_shapes("rnn", 1, x, weight_ih, weight_hh, (bias_ih, bias_hh), (h0,))
    hidden, kind = weight_hh.shape[1], RNN_NONLINEARITIES[nonlinearity]
    scan = Scan(x, hidden, reverse, lengths)
    xp, x = scan.xp, scan.sorted(x)
    z = input_products(scan, x, weight_ih, bias_ih, bias_hh)
    h_before, h = scan.states(h0, z)
    operand, w_hh = operand_now(), contiguous(weight_hh)
    forward, backward, rounded = _plans(scan, w_hh, 1)
    if forward:
        sequences.launch(_RNN, "rnn_sequence_forward", forward, scan, rounded, (w_hh, z, h_before, h), kind)
    else:
        right = operand(contiguous(w_hh.T))
        for t, n in scan.steps:
            xp.matmul(operand(h_before[t, :n]), right, out=h[t, :n])
            _RNN.launch("rnn_forward", _blocks(h[t]), _THREADS, z[t], h_before[t], h[t], n * hidden, h[t].size, kind)

    def vjp(dy, dh_n):
        (dy, dh), dz = _received(scan, z.dtype, dy, dh_n), xp.empty_like(z)
        if backward:
            sequences.launch(_RNN, "rnn_sequence_backward", backward, scan, rounded, (w_hh, h, dy, dh, dz), kind)
        else:
            right = operand(w_hh)
            for t, n in reversed(scan.steps):
                _RNN.launch("rnn_backward", _blocks(dh), _THREADS, h[t], dy[t], dh, dz[t], n * hidden, dh.size, kind)
                xp.matmul(operand(dz[t, :n]), right, out=dh[:n])
        return gradients(scan, x, h_before, dz, dz, weight_ih, (bias_ih, bias_hh), [None if h0 is None else dh])

    return (scan.restored(h), scan.final(h)), vjp


@kernel("lstm", device="cuda", floats_only=True)
def lstm(x, weight_ih, weight_hh, bias_ih=None, bias_hh=None, h0=None, c0=None, /, *, reverse=False, lengths=None):
    check_shapes("lstm", 4, x, weight_ih, weight_hh, (bias_ih, bias_hh), (h0, c0))
    batch, hidden = x.shape[1], weight_hh.shape[1]
    scan = Scan(x, hidden, reverse, lengths)
    xp, x = scan.xp, scan.sorted(x)
    gates = input_products(scan, x, weight_ih, bias_ih, bias_hh)
    h_before, h = scan.states(h0, gates)
    c_before, c = scan.states(c0, gates)
    operand, w_hh = operand_now(), contiguous(weight_hh)
    forward, backward, rounded = _plans(scan, w_hh, 4)
    if forward:
        sequences.launch(_LSTM, "lstm_sequence_forward", forward, scan, rounded, (w_hh, gates, h_before, c_before, h, c))
    else:
        right, product = operand(contiguous(w_hh.T)), xp.empty_like(gates[0])
        for t, n in scan.steps:
            xp.matmul(operand(h_before[t, :n]), right, out=product[:n])
            _LSTM.launch(
                "lstm_forward", _blocks(h[t]), _THREADS, gates[t], product, h_before[t], c_before[t], h[t], c[t], n, batch, hidden
            )  # fmt: skip

    def vjp(dy, dh_n, dc_n):
        (dy, dh, dc), dz = _received(scan, gates.dtype, dy, dh_n, dc_n), xp.empty_like(gates)
        if backward:
            sequences.launch(_LSTM, "lstm_sequence_backward", backward, scan, rounded, (w_hh, gates, c_before, c, dy, dh, dc, dz))
        else:
            right = operand(w_hh)
            for t, n in reversed(scan.steps):
                _LSTM.launch(
                    "lstm_backward", _blocks(dh), _THREADS, gates[t], c_before[t], c[t], dy[t], dh, dc, dz[t], n, batch, hidden
                )  # fmt: skip
                xp.matmul(operand(dz[t, :n]), right, out=dh[:n])
        states = [None if h0 is None else dh, None if c0 is None else dc]
        return gradients(scan, x, h_before, dz, dz, weight_ih, (bias_ih, bias_hh), states)

    return (scan.restored(h), scan.final(h), scan.final(c)), vjp


@kernel("gru", device="cuda", floats_only=True)
def gru(x, weight_ih, weight_hh, bias_ih=None, bias_hh=None, h0=None, /, *, reverse=False, lengths=None):
    check_shapes("gru", 3, x, weight_ih, weight_hh, (bias_ih, bias_hh), (h0,))
    batch, hidden = x.shape[1], weight_hh.shape[1]
    scan = Scan(x, hidden, reverse, lengths)
    xp, x = scan.xp, scan.sorted(x)
    gates = input_products(scan, x, weight_ih, bias_ih)
    h_before, h = scan.states(h0, gates)
    operand, w_hh = operand_now(), contiguous(weight_hh)
    s_n, bias = xp.empty(h.shape, h.dtype), None if bias_hh is None else contiguous(bias_hh)
    forward, backward, rounded = _plans(scan, w_hh, 3)
    if forward:
        sequences.launch(_GRU, "gru_sequence_forward", forward, scan, rounded, (w_hh, gates, bias, h_before, s_n, h))
    else:
        right, product = operand(contiguous(w_hh.T)), xp.empty_like(gates[0])
        for t, n in scan.steps:
            xp.matmul(operand(h_before[t, :n]), right, out=product[:n])
            _GRU.launch("gru_forward", _blocks(h[t]), _THREADS, gates[t], product, bias, h_before[t], s_n[t], h[t], n, batch, hidden)

    def vjp(dy, dh_n):
        (dy, dh), da, ds = _received(scan, gates.dtype, dy, dh_n), xp.empty_like(gates), xp.empty_like(gates)
        if backward:
            sequences.launch(_GRU, "gru_sequence_backward", backward, scan, rounded, (w_hh, gates, s_n, h_before, dy, dh, da, ds))
        else:
            right, product, handed = operand(w_hh), xp.empty_like(dh), 0
            for t, n in reversed(scan.steps):
                _GRU.launch(
                    "gru_backward", _blocks(dh), _THREADS,
                    gates[t], s_n[t], h_before[t], dy[t], product, dh, da[t], ds[t], handed, n, batch, hidden,
                )  # fmt: skip
                xp.matmul(operand(ds[t, :n]), right, out=product[:n])
                handed = n
            dh[:handed] += product[:handed]
        return gradients(scan, x, h_before, da, ds, weight_ih, (bias_ih, bias_hh), [None if h0 is None else dh])

    return (scan.restored(h), scan.final(h)), vjp
