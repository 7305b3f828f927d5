"""What the gates of a recurrent layer do at each step of a forward pass."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinylm.engine.devices import to_numpy
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError
from tinylm.explain.activations import cache, names
from tinylm.explain.array_text import table_of_arrays
from tinylm.nn import Module

Values = dict[str, np.ndarray]
GATES = ("input", "forget", "output", "reset", "update")  # those within (0, 1)
_KINDS = {"input": "lstm", "reset": "gru", "h": "rnn"}  # the first value of a layer says what it is


@dataclass(frozen=True)
class Gates:
    """One recurrent layer and direction.  name: such as 'rnn.0'.  values: the gates and states
    by name, (T, N, H) float64 each, NaN beyond the length of a shorter sequence. An LSTM has input, forget,
    candidate, output, c and h; a GRU has reset, update, candidate and h; an RNN has h. Gates are within (0, 1),
    candidates within (-1, 1)."""

    name: str
    kind: str
    values: Values

    def __repr__(self) -> str:
        return f"<Gates {self.name}: {self.kind}, {', '.join(self.values)} {self.values['h'].shape}>"

    def _repr_html_(self) -> str:
        """Returns what a notebook shows: each gate and state of the first sequence, units by time steps."""
        title = f"{self.name} ({self.kind}): units by time steps of the first of {self.values['h'].shape[1]} sequences"
        return table_of_arrays(title, ["value"], [(name, value[:, 0].T) for name, value in self.values.items()])


def gate_values(model: Module, *inputs: Any, **named: Any) -> list[Gates]:
    """Returns the gates and states of every recurrent layer while the model reads `inputs`, the first layer first; [] if it has none.

    inputs, named: what the model's forward pass takes, such as ids. Raises ConfigError for something else than a model.
    """
    if not isinstance(model, Module):
        raise ConfigError(f"explain.gate_values got {type(model).__name__}: expected the model and its inputs, gate_values(model, ids)")
    if recurrent := [name for name in names(model) if is_recurrent(name)]:
        with cache(model, recurrent) as seen:
            model(*inputs, **named)
        return gates_of(seen)
    return []


def is_recurrent(name: str) -> bool:
    """Returns whether an activation is a gate or state of a recurrent layer."""
    return "rnn" in name.split(".")[:-2] and name.rpartition(".")[2] in (*GATES, "candidate", "c", "h")


def gates_of(seen: Mapping[str, Tensor]) -> list[Gates]:
    """Returns the gates and states among activations that a `cache` has kept, of each layer and direction."""
    layers: dict[str, Values] = {}
    for name, value in seen.items():
        if is_recurrent(name):
            layer, _, kind = name.rpartition(".")
            layers.setdefault(layer, {})[kind] = to_numpy(value.data).astype(np.float64).swapaxes(0, 1)  # (N, T, H) -> (T, N, H)
    return [Gates(layer, _KINDS[next(iter(values))], values) for layer, values in layers.items()]
