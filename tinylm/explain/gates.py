"""What the gates of a recurrent layer do at each step, read from the tape of a forward pass."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinylm.engine.autograd import Node
from tinylm.engine.devices import to_numpy
from tinylm.engine.tensor import as_array
from tinylm.explain.naming import Names, recorded_nodes
from tinylm.nn import Module

Values = dict[str, np.ndarray]


@dataclass(frozen=True)
class Gates:
    """One recurrent layer and direction.  name: its path, such as 'rnn.l0'.  values: the gates and states
    by name, (T, N, H) float64 each, NaN beyond the length of a shorter sequence. An LSTM has input, forget,
    candidate, output, c and h; a GRU has reset, update, candidate and h; an RNN has h. Gates are within (0, 1),
    candidates within (-1, 1)."""

    name: str
    kind: str
    values: Values


def gate_values(output: Any, *, model: Module | None = None) -> list[Gates]:
    """Returns the gates of the recurrent layers that led to `output`, the first layer first.

    output: a tensor of any model, computed with recording on (not in `no_grad`) and not freed by
    `backward`; the tape holds the inputs of each layer, and its steps are computed again. model: gives names.
    Raises AutogradError if there is no tape.
    """
    names = Names(model, output)
    found: list[Gates] = []
    for node in recorded_nodes(output):
        if node.op.name in _STEPS:
            path = names.parameter(node.inputs[1]).replace("weight_ih_", "")
            found.append(Gates(path or f"{node.op.name} {len(found)}", node.op.name, _replay(node)))
    return found


def _replay(node: Node) -> Values:
    arrays: list[Any] = [None if a is None else to_numpy(as_array(a)).astype(np.float64) for a in node.inputs]
    x, weight_ih, weight_hh, bias_ih, bias_hh, *first = arrays
    settings = node.settings[1]
    steps, batch = x.shape[:2]
    lengths = settings.get("lengths")
    running = np.arange(steps)[:, None] < (np.full(batch, steps) if lengths is None else np.asarray(lengths))
    states = [np.zeros((batch, weight_hh.shape[1])) if s is None else s for s in first]
    kept: dict[str, list[Any]] = {}
    for t in range(steps)[:: -1 if settings.get("reverse") else 1]:
        a = x[t] @ weight_ih.T + (0 if bias_ih is None else bias_ih)
        s = states[0] @ weight_hh.T + (0 if bias_hh is None else bias_hh)
        values = _STEPS[node.op.name](a, s, states, settings)
        runs = running[t][:, None]
        states = [np.where(runs, values[name], old) for name, old in zip("hc", states, strict=False)]
        for name, value in values.items():
            kept.setdefault(name, [None] * steps)[t] = np.where(runs, value, np.nan)
    return {name: np.stack(value) for name, value in kept.items()}


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return (1 + np.tanh(z / 2)) / 2


def _rnn(a: np.ndarray, s: np.ndarray, states: list[np.ndarray], settings: dict[str, Any]) -> Values:
    functions: dict[str, Callable[[np.ndarray], np.ndarray]] = {"tanh": np.tanh, "relu": lambda z: np.maximum(z, 0), "sigmoid": _sigmoid}
    return {"h": functions[settings.get("nonlinearity", "tanh")](a + s)}


def _lstm(a: np.ndarray, s: np.ndarray, states: list[np.ndarray], settings: dict[str, Any]) -> Values:
    i, f, g, o = np.split(a + s, 4, axis=1)
    i, f, g, o = _sigmoid(i), _sigmoid(f), np.tanh(g), _sigmoid(o)
    c = f * states[1] + i * g
    return {"input": i, "forget": f, "candidate": g, "output": o, "c": c, "h": o * np.tanh(c)}


def _gru(a: np.ndarray, s: np.ndarray, states: list[np.ndarray], settings: dict[str, Any]) -> Values:
    (a_r, a_z, a_n), (s_r, s_z, s_n) = np.split(a, 3, axis=1), np.split(s, 3, axis=1)
    r, z = _sigmoid(a_r + s_r), _sigmoid(a_z + s_z)
    n = np.tanh(a_n + r * s_n)
    return {"reset": r, "update": z, "candidate": n, "h": (1 - z) * n + z * states[0]}


_STEPS = {"rnn": _rnn, "lstm": _lstm, "gru": _gru}
GATES = ("input", "forget", "output", "reset", "update")  # those within (0, 1)
