"""The recurrent ops, unfolded: their states and gates at each time step, and what backpropagation through time gives there.

The tape has one node for a whole sequence. Here its steps run again one by one, each with a small tape of its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import ConsoleRenderable, Group
from rich.table import Table
from rich.text import Text

from tinylm import ops
from tinylm.engine.autograd import set_recording
from tinylm.engine.devices import to_numpy
from tinylm.engine.grad import grad
from tinylm.engine.tensor import Tensor, as_array
from tinylm.errors import ConfigError
from tinylm.explain.array_text import table_of_arrays

Values = dict[str, Tensor]


@dataclass(frozen=True)
class TimeSteps:
    """A recurrent op over T steps of N sequences with H units, in float64, whose products are never rounded.

    op: 'rnn', 'lstm' or 'gru'.  order: the steps as the forward pass takes them, from the last to the first in reverse.
    values: the gates and states by name, (T, N, H): an LSTM has input, forget, candidate, output, c and h; a GRU has reset, update,
    candidate and h; an RNN has h.  gradients: those of the loss with respect to each of them, complete: what later steps and
    the output's own use give together.  inputs: x (T, N, in), and the h that each step started from (T, N, H).  products: the gradients
    of W_ih x_t + b_ih and of W_hh h_{t-1} + b_hh, (T, N, gates H) each.  biased: whether the op has b_ih and b_hh.
    """

    op: str
    order: list[int]
    values: dict[str, np.ndarray]
    gradients: dict[str, np.ndarray]
    inputs: tuple[np.ndarray, np.ndarray]
    products: tuple[np.ndarray, np.ndarray]
    biased: tuple[bool, bool]

    def contribution(self, t: int) -> dict[str, np.ndarray]:
        """Returns what step t adds to the gradient of each weight and bias: the sum over all steps is what the op returns.
        dW_ih = daᵀ x_t, dW_hh = dsᵀ h_{t-1}, db_ih = Σ da, db_hh = Σ ds, with a and s the two products (Goodfellow et al. 2016, section
        10.2.2)."""
        weights = {f"weight_{name}": d[t].T @ x[t] for name, d, x in zip(("ih", "hh"), self.products, self.inputs, strict=True)}
        both = zip(("ih", "hh"), self.products, self.biased, strict=True)
        return weights | {f"bias_{name}": d[t].sum(axis=0) for name, d, biased in both if biased}

    def table(self) -> list[tuple[str, list[float]]]:
        """Returns columns of T numbers: the norm of each state, the mean of each gate, then the norms of their gradients, and
        of the step's contributions."""
        steps = len(self.order)
        columns = []
        for name, values in self.values.items():
            rows = values.reshape(steps, -1)
            is_state = name in ("h", "c")
            columns.append((f"|{name}|" if is_state else f"{name}", np.linalg.norm(rows, axis=1) if is_state else rows.mean(axis=1)))
        columns += [(f"|d {name}|", np.linalg.norm(a.reshape(steps, -1), axis=1)) for name, a in self.gradients.items()]
        for name, d, x in zip(("ih", "hh"), self.products, self.inputs, strict=True):  # |dᵀ x|² = Σ (d dᵀ) (x xᵀ), of N x N only
            squares = (np.matmul(d, d.swapaxes(1, 2)) * np.matmul(x, x.swapaxes(1, 2))).sum(axis=(1, 2))
            columns.append((f"|d weight_{name}|", np.sqrt(np.maximum(squares, 0))))
        return [(name, column.tolist()) for name, column in columns]

    def __rich__(self) -> ConsoleRenderable:
        return self.tables()

    def tables(self, tokens: Sequence[str] = ()) -> Group:
        """Returns two tables for rich.print, one row per time step in the order of the forward pass: values, and gradients.
        tokens: what is read at each time step, if it is to be shown."""
        columns = self.table()
        named = ["token"] if tokens else []
        half = len(self.values)
        tables = []
        for title, part in (("norms of the states, means of the gates", columns[:half]), ("norms of the gradients", columns[half:])):
            table = Table("t", *named, *(name for name, _ in part), box=None, title=title, title_justify="left")
            for t in self.order:
                table.add_row(str(t), *([Text(repr(tokens[t]))] if tokens else []), *(f"{column[t]:.3g}" for _, column in part))
            tables.append(table)
        return Group(*tables)

    def _repr_html_(self) -> str:
        """Returns what a notebook shows: values beside gradients of the first sequence, units by time steps."""
        rows = [(name, value[:, 0].T, self.gradients[name][:, 0].T) for name, value in self.values.items()]
        return table_of_arrays(f"{self!r:.200}: units by time steps of the first", ["value", "gradient"], rows)

    def __repr__(self) -> str:
        steps, batch, hidden = self.values["h"].shape
        return f"<{self.op}: {steps} time steps of {batch} sequences, {hidden} units>"


def _rnn(a: Tensor, s: Tensor, states: Sequence[Tensor], settings: dict[str, Any]) -> Values:
    z = a + s
    kind = settings.get("nonlinearity", "tanh")
    return {"h": ops.maximum(z, 0.0) if kind == "relu" else getattr(ops, kind)(z)}


def _lstm(a: Tensor, s: Tensor, states: Sequence[Tensor], settings: dict[str, Any]) -> Values:
    i, f, g, o = ops.split(a + s, 4, axis=-1)
    values = {"input": ops.sigmoid(i), "forget": ops.sigmoid(f), "candidate": ops.tanh(g), "output": ops.sigmoid(o)}
    values["c"] = values["forget"] * states[1] + values["input"] * values["candidate"]
    return {**values, "h": values["output"] * ops.tanh(values["c"])}


def _gru(a: Tensor, s: Tensor, states: Sequence[Tensor], settings: dict[str, Any]) -> Values:
    a_r, a_z, a_n = ops.split(a, 3, axis=-1)
    s_r, s_z, s_n = ops.split(s, 3, axis=-1)
    reset, update = ops.sigmoid(a_r + s_r), ops.sigmoid(a_z + s_z)
    new = ops.tanh(a_n + reset * s_n)
    return {"reset": reset, "update": update, "candidate": new, "h": (1 - update) * new + update * states[0]}


_CELLS: dict[str, Callable[..., Values]] = {"rnn": _rnn, "lstm": _lstm, "gru": _gru}


def is_recurrent(step: Any) -> bool:
    """Returns True for a `Step` of rnn, lstm or gru."""
    return step.op in _CELLS and step.node.op.composed is not None


def time_steps(step: Any) -> TimeSteps:
    """Returns the time steps inside a `Step` of rnn, lstm or gru.

    Raises ConfigError for the step of another op.
    """
    if not is_recurrent(step):
        raise ConfigError(f"step {step.number} is {step.op}: only rnn, lstm and gru have time steps")
    arrays: list[Any] = [None if a is None else to_numpy(as_array(a)).astype(np.float64) for a in step.values]
    x, weight_ih, weight_hh, bias_ih, bias_hh, *first = arrays
    settings = step.node.settings[1]
    count, batch = x.shape[:2]
    lengths = settings.get("lengths")
    runs = (np.arange(count)[:, None] < (np.full(batch, count) if lengths is None else to_numpy(as_array(lengths))))[:, :, None]
    x = np.where(runs, x, 0)
    order = list(range(count))[:: -1 if settings.get("reverse") else 1]
    zeros = np.zeros((batch, weight_hh.shape[1]))
    names = ["h", "c"] if step.op == "lstm" else ["h"]
    states = [zeros if array is None else array for array in (*first, *[None] * (len(names) - len(first)))]

    cells: list[Any] = [None] * count
    for t in order:
        a = x[t] @ weight_ih.T + (0 if bias_ih is None else bias_ih)
        s = states[0] @ weight_hh.T + (0 if bias_hh is None else bias_hh)
        cells[t] = _Cell(step.op, a, s, states, settings)
        states = [np.where(runs[t], cells[t].values[name].data, array) for name, array in zip(names, states, strict=True)]

    dy, *last = (None if g is None else to_numpy(g).astype(np.float64) for g in step.incoming)
    arriving = [zeros if g is None else g for g in last]  # what later steps give to h and c
    for t in reversed(order):
        given = [np.where(runs[t], g, 0) for g in arriving]
        if dy is not None:
            given[0] = given[0] + np.where(runs[t], dy[t], 0)
        cells[t].backward(dict(zip(names, given, strict=True)))
        d_h, *d_others = cells[t].d_states
        before = [cells[t].d_s @ weight_hh + d_h, *d_others]
        arriving = [new + np.where(runs[t], 0, g) for new, g in zip(before, arriving, strict=True)]  # a finished sequence passes it on

    return TimeSteps(
        step.op,
        order,
        {name: np.stack([np.where(runs[t], cells[t].values[name].data, 0) for t in range(count)]) for name in cells[0].values},
        {name: np.stack([cell.gradients[name] for cell in cells]) for name in cells[0].values},
        (x, np.stack([cell.states[0].data for cell in cells])),
        (np.stack([cell.d_a for cell in cells]), np.stack([cell.d_s for cell in cells])),
        (bias_ih is not None, bias_hh is not None),
    )


class _Cell:
    """One time step with its own tape.  a, s: W_ih x + b_ih and W_hh h + b_hh.  states: h, and c of an LSTM, before the step."""

    def __init__(self, op: str, a: np.ndarray, s: np.ndarray, states: Sequence[np.ndarray], settings: dict[str, Any]) -> None:
        self.a, self.s = Tensor(a, requires_grad=True), Tensor(s, requires_grad=True)
        self.states = [Tensor(array, requires_grad=True) for array in states]
        with set_recording(True):
            self.values = _CELLS[op](self.a, self.s, self.states, settings)

    def backward(self, given: dict[str, np.ndarray]) -> None:
        """Fills d_a, d_s, d_states and gradients, from what h and c after the step receive from elsewhere."""
        with set_recording(True):
            total = sum((ops.sum(self.values[name] * g) for name, g in given.items()), Tensor(0.0))
        wanted = [self.a, self.s, *self.states, *self.values.values()]
        found = [np.zeros(x.shape) if g is None else g.numpy() for g, x in zip(grad(total, wanted), wanted, strict=True)]
        (self.d_a, self.d_s), n = found[:2], 2 + len(self.states)
        self.d_states, self.gradients = found[2:n], dict(zip(self.values, found[n:], strict=True))
