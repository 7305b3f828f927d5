"""Recurrent layers step by step: the formulas of the literature, made of small ops.

These are the composed twins of the fused ops in `recurrent.py`. They run on arrays and on tensors;
on tensors they can be differentiated any number of times.
"""

from collections.abc import Callable, Sequence
from typing import Any

from tinylm.engine.arrays import Array, array_module, raw_module
from tinylm.engine.products import matmul_now


def _affine(x: Array, weight: Array, bias: Array | None) -> Array:
    xp = array_module(x, weight, bias)
    y = matmul_now(xp)(x, xp.transpose(weight))
    return y if bias is None else y + bias


def rnn_cell(x, h, weight_ih, weight_hh, bias_ih, bias_hh, nonlinearity):
    """h' = φ(W_ih x + b_ih + W_hh h + b_hh), φ one of 'tanh', 'relu', 'sigmoid'."""
    z = _affine(x, weight_ih, bias_ih) + _affine(h, weight_hh, bias_hh)
    xp = array_module(z)
    return xp.maximum(z, 0) if nonlinearity == "relu" else getattr(xp, nonlinearity)(z)


def lstm_cell(x, h, c, weight_ih, weight_hh, bias_ih, bias_hh):
    """c' = σ(f) c + σ(i) tanh(g), h' = σ(o) tanh(c'), (i, f, g, o) = W_ih x + b_ih + W_hh h + b_hh."""
    z = _affine(x, weight_ih, bias_ih) + _affine(h, weight_hh, bias_hh)
    xp = array_module(z)
    i, f, g, o = xp.split(z, 4, axis=-1)
    c = xp.sigmoid(f) * c + xp.sigmoid(i) * xp.tanh(g)
    return xp.sigmoid(o) * xp.tanh(c), c


def gru_cell(x, h, weight_ih, weight_hh, bias_ih, bias_hh):
    """h' = (1 - z) n + z h, n = tanh(W_in x + b_in + r (W_hn h + b_hn)), r and z as σ of sums like an RNN's."""
    xp = array_module(x, h, weight_ih, weight_hh)
    xr, xz, xn = xp.split(_affine(x, weight_ih, bias_ih), 3, axis=-1)
    hr, hz, hn = xp.split(_affine(h, weight_hh, bias_hh), 3, axis=-1)
    r, z = xp.sigmoid(xr + hr), xp.sigmoid(xz + hz)
    return (1 - z) * xp.tanh(xn + r * hn) + z * h


def _unrolled(
    step: Callable[..., Sequence[Array]], x: Array, states: Sequence[Array | None], hidden: int, reverse: bool, lengths: Any
) -> tuple[Array, ...]:
    """Returns the outputs (T, N, H) and final states of states = step(x[t], states), where the first state is
    the output. Beyond a sequence's length the output is 0 and the states do not change."""
    xp, raw = array_module(x, *states), raw_module(x)
    steps, batch = x.shape[:2]
    running = None
    if lengths is not None:
        running = (raw.arange(steps)[:, None] < raw.asarray(lengths))[..., None]
        x = xp.where(running, x, 0.0)
    now = [raw.zeros((batch, hidden), x.dtype) if s is None else s for s in states]
    outputs: list[Any] = [None] * steps
    for t in range(steps)[:: -1 if reverse else 1]:
        new = step(x[t], *now)
        outputs[t] = new[0] if running is None else xp.where(running[t], new[0], 0.0)
        now = list(new) if running is None else [xp.where(running[t], a, b) for a, b in zip(new, now, strict=True)]
    return xp.stack(outputs), *now


def rnn_steps(x, weight_ih, weight_hh, bias_ih=None, bias_hh=None, h0=None, /, *, nonlinearity="tanh", reverse=False, lengths=None):
    """The composed twin of `rnn`."""
    weights = weight_ih, weight_hh, bias_ih, bias_hh
    return _unrolled(lambda x_t, h: (rnn_cell(x_t, h, *weights, nonlinearity),), x, [h0], weight_hh.shape[1], reverse, lengths)


def lstm_steps(x, weight_ih, weight_hh, bias_ih=None, bias_hh=None, h0=None, c0=None, /, *, reverse=False, lengths=None):
    """The composed twin of `lstm`."""
    weights = weight_ih, weight_hh, bias_ih, bias_hh
    return _unrolled(lambda x_t, h, c: lstm_cell(x_t, h, c, *weights), x, [h0, c0], weight_hh.shape[1], reverse, lengths)


def gru_steps(x, weight_ih, weight_hh, bias_ih=None, bias_hh=None, h0=None, /, *, reverse=False, lengths=None):
    """The composed twin of `gru`."""
    weights = weight_ih, weight_hh, bias_ih, bias_hh
    return _unrolled(lambda x_t, h: (gru_cell(x_t, h, *weights),), x, [h0], weight_hh.shape[1], reverse, lengths)
