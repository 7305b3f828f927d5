"""Recurrent layers written out, one time step after the other, with the gates and states of each."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinylm import nn, ops
from tinylm.engine.devices import to_device, to_numpy
from tinylm.engine.tensor import Tensor
from tinylm.explain.forward.taps import Tap
from tinylm.nn.recurrent import Lengths

Layers = nn.RNN | nn.LSTM | nn.GRU
Shown = Callable[[str, Tensor], Tensor]  # shows a gate or state of the present step, and returns it or what takes its place

NAMES: dict[type, tuple[str, ...]] = {
    nn.RNN: ("h",),
    nn.LSTM: ("input", "forget", "candidate", "output", "c", "h"),
    nn.GRU: ("reset", "update", "candidate", "h"),
}


def _rnn_step(x: Tensor, s: Tensor, states: Sequence[Tensor], shown: Shown, nonlinearity: str) -> list[Tensor]:
    """h = φ(x + s), with x = W_ih x_t + b_ih and s = W_hh h_{t-1} + b_hh here and below."""
    z = x + s
    return [shown("h", ops.maximum(z, 0) if nonlinearity == "relu" else ops.tanh(z) if nonlinearity == "tanh" else ops.sigmoid(z))]


def _lstm_step(x: Tensor, s: Tensor, states: Sequence[Tensor], shown: Shown) -> list[Tensor]:
    """c = f c + i g, h = o tanh(c)."""
    i, f, g, o = ops.split(x + s, 4, axis=-1)
    i, f, g, o = (
        shown("input", ops.sigmoid(i)), shown("forget", ops.sigmoid(f)), shown("candidate", ops.tanh(g)), shown("output", ops.sigmoid(o))
    )  # fmt: skip
    c = shown("c", f * states[1] + i * g)
    return [shown("h", o * ops.tanh(c)), c]


def _gru_step(x: Tensor, s: Tensor, states: Sequence[Tensor], shown: Shown) -> list[Tensor]:
    """h = (1 - z) n + z h, n = tanh(x_n + r s_n)."""
    (x_r, x_z, x_n), (s_r, s_z, s_n) = ops.split(x, 3, axis=-1), ops.split(s, 3, axis=-1)
    r, z = shown("reset", ops.sigmoid(x_r + s_r)), shown("update", ops.sigmoid(x_z + s_z))
    n = shown("candidate", ops.tanh(x_n + r * s_n))
    return [shown("h", (1 - z) * n + z * states[0])]


_STEPS: dict[type, Callable[..., list[Tensor]]] = {nn.RNN: _rnn_step, nn.LSTM: _lstm_step, nn.GRU: _gru_step}


def recurrent_names(layers: Layers) -> list[str]:
    """Returns the names within recurrent layers: '0.forget', '0.reverse.forget', ..."""
    kind = next(kind for kind in NAMES if isinstance(layers, kind))
    parts = [f"{layer}.{'reverse.' if direction else ''}" for layer in range(layers.num_layers) for direction in layers.directions]
    return [part + name for part in parts for name in NAMES[kind]]


def recurrent(layers: Layers, tap: Tap, x: Tensor, hx: Any = None, *, lengths: Lengths | None = None) -> tuple[Tensor, Any]:
    """Returns what the layers' `forward` returns: (output, h_n), or (output, (h_n, c_n)) of an LSTM.

    A gate or state is shown step by step, (N, H) each, in the order of the computation, and then as a whole, (N, T, H): NaN beyond
    the length of a shorter sequence. What takes the place of a state is what the next step starts from.
    """
    pair = isinstance(layers, nn.LSTM)
    given = [] if hx is None else list(hx) if pair else [hx]
    batched = x.ndim == 3
    if not batched:
        x, given = ops.expand_dims(x, 1), [ops.expand_dims(state, 1) for state in given]
    elif layers.batch_first:
        x = ops.swapaxes(x, 0, 1)
    running = None if lengths is None else _running(lengths, x)
    finals: list[list[Tensor]] = []
    for layer in range(layers.num_layers):
        outputs = []
        for direction in layers.directions:
            zeros = Tensor(np.zeros((x.shape[1], layers.hidden_size), x.dtype)).to(x.device)
            first = [state[len(finals)] for state in given] or [zeros] * (2 if pair else 1)
            y, last = _direction(layers, tap, x, first, layer, direction, running)
            outputs.append(y)
            finals.append(last)
        x = outputs[0] if len(outputs) == 1 else ops.concatenate(outputs, axis=2)
        if layers.training and layers.dropout != 0 and layer < layers.num_layers - 1:
            x = ops.dropout(x, layers.dropout)
    states = [ops.stack(each) for each in zip(*finals, strict=True)]
    if not batched:
        x, states = ops.squeeze(x, 1), [ops.squeeze(state, 1) for state in states]
    elif layers.batch_first:
        x = ops.swapaxes(x, 0, 1)
    return x, (states[0], states[1]) if pair else states[0]


def _running(lengths: Lengths, x: Tensor) -> Tensor:
    """Returns (T, N, 1) booleans, True before the end of a sequence."""
    ends = to_numpy(Tensor.as_tensor(lengths).data)
    return Tensor(to_device((np.arange(x.shape[0])[:, None] < ends)[..., None], x.device))


def _direction(
    layers: Layers, tap: Tap, x: Tensor, states: list[Tensor], layer: int, direction: str, running: Tensor | None
) -> tuple[Tensor, list[Tensor]]:
    """Returns the outputs (T, N, H) and the final states of one layer in one direction."""
    kind = next(kind for kind in NAMES if isinstance(layers, kind))
    part = tap.within(f"{layer}.{'reverse.' if direction else ''}")
    suffix = f"_l{layer}{direction}"
    biases = [getattr(layers, name + suffix) for name in layers.bias_names]
    bias_ih, bias_hh = [*biases, None, None][:2]
    weight_hh = getattr(layers, f"weight_hh{suffix}")
    products = ops.linear(x, getattr(layers, f"weight_ih{suffix}"), bias_ih)  # W_ih x_t + b_ih of all steps
    outputs: list[Any] = [None] * x.shape[0]

    for t in range(x.shape[0])[:: -1 if direction else 1]:

        def show(name: str, own: Tensor, t: int = t) -> Tensor:
            value = part.step(name, own, t, x.shape[0])
            return (
                value if running is None or value is own else ops.where(running[t], value, own)
            )  # a sequence that has ended goes on unchanged

        s = ops.linear(states[0], weight_hh, bias_hh)
        new = _STEPS[kind](products[t], s, states, show, **layers.settings)
        if running is not None:
            new = [ops.where(running[t], after, before) for after, before in zip(new, states, strict=True)]
        outputs[t] = new[0] if running is None else ops.where(running[t], new[0], 0.0)
        states = new
    for name in NAMES[kind]:
        part.all_steps(name, x.shape[0], running)
    return ops.stack(outputs), states
