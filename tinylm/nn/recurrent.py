"""Recurrent layers over sequences (RNN, LSTM, GRU) and their single steps (RNNCell, ...)."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinylm import ops
from tinylm.checks import check_integer, check_probability
from tinylm.engine.devices import to_numpy
from tinylm.engine.tensor import Tensor
from tinylm.errors import ShapeError
from tinylm.nn import init
from tinylm.nn.modules import Module
from tinylm.ops.recurrent import check_nonlinearity

Lengths = Tensor | np.ndarray | Sequence[int]  # how many steps each sequence of a batch has


class _Weights(Module):
    """What sequences and cells have in common: sizes, and parameters under PyTorch's names."""

    op: Any  # the fused op of one layer and direction
    gates = 1  # blocks of hidden_size rows in each weight

    def __init__(self, input_size: int, hidden_size: int, bias: bool, single_bias: bool = False) -> None:
        super().__init__()
        check_integer(f"{type(self).__name__}: input_size", input_size, 1)
        check_integer(f"{type(self).__name__}: hidden_size", hidden_size, 1)
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        self.bias_names = () if not bias else ("bias_h",) if single_bias else ("bias_ih", "bias_hh")
        self.settings: dict[str, Any] = {}  # of the op

    def add_parameters(self, inputs: int, suffix: str = "") -> None:
        """Adds weights (gates H, inputs) and (gates H, H) and biases, all U(-1/√H, 1/√H)."""
        rows, bound = self.gates * self.hidden_size, 1 / math.sqrt(self.hidden_size)
        setattr(self, f"weight_ih{suffix}", init.uniform((rows, inputs), bound))
        setattr(self, f"weight_hh{suffix}", init.uniform((rows, self.hidden_size), bound))
        for name in self.bias_names:
            setattr(self, name + suffix, init.uniform((rows,), bound))

    def run(self, x: Tensor, states: Sequence[Tensor | None], suffix: str = "", **settings: Any) -> Any:
        """Applies the op to x (T, N, in) with the parameters of one layer and direction."""
        biases = [getattr(self, name + suffix) for name in self.bias_names]
        biases += [None] * (2 - len(biases))
        weights = getattr(self, f"weight_ih{suffix}"), getattr(self, f"weight_hh{suffix}")
        return type(self).op(x, *weights, *biases, *states, **self.settings, **settings)

    def check_input(self, x: Tensor, ndims: tuple[int, int]) -> None:
        if x.ndim not in ndims or x.shape[-1] != self.input_size:
            name, (few, many) = type(self).__name__, ndims
            raise ShapeError(f"{name}: x has shape {x.shape}, expected {few} or {many} axes, the last of length {self.input_size}")

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}"


class _Recurrent(_Weights):
    """Several layers and directions; see `LSTM` for the shapes."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        single_bias: bool = False,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, single_bias)
        check_integer(f"{type(self).__name__}: num_layers", num_layers, 1)
        self.num_layers, self.batch_first, self.bidirectional = num_layers, batch_first, bidirectional
        self.dropout = check_probability(dropout)
        self.directions = ("", "_reverse") if bidirectional else ("",)
        for layer in range(num_layers):
            for direction in self.directions:
                self.add_parameters(hidden_size * len(self.directions) if layer else input_size, f"_l{layer}{direction}")

    def scan(self, x: Tensor, states: Sequence[Tensor | None], lengths: Lengths | None) -> tuple[Tensor, list[Tensor]]:
        """Returns (output, final states) of all layers; states has one entry for h, and one for c in an LSTM."""
        self.check_input(x, (2, 3))
        batched, lead = x.ndim == 3, self.num_layers * len(self.directions)
        time_axis = 1 if batched and self.batch_first else 0
        expected = (lead, x.shape[1 - time_axis], self.hidden_size) if batched else (lead, self.hidden_size)
        for s in states:
            if s is not None and s.shape != expected:
                raise ShapeError(f"{type(self).__name__}: an initial state has shape {s.shape}, expected {expected} for x of {x.shape}")
        if lengths is not None:
            lengths = to_numpy(Tensor.as_tensor(lengths).data)
        if not batched:
            x, states = ops.expand_dims(x, 1), [None if s is None else ops.expand_dims(s, 1) for s in states]  # (T, 1, in)
        elif self.batch_first:
            x = ops.swapaxes(x, 0, 1)  # (N, T, in) -> (T, N, in)

        finals: list[Any] = []
        for layer in range(self.num_layers):
            outputs = []
            for direction in self.directions:
                first = [None if s is None else s[len(finals)] for s in states]
                y, *last = self.run(x, first, f"_l{layer}{direction}", reverse=bool(direction), lengths=lengths)
                outputs.append(y)
                finals.append(last)
            x = outputs[0] if len(outputs) == 1 else ops.concatenate(outputs, axis=2)
            if self.training and self.dropout != 0 and layer < self.num_layers - 1:
                x = ops.dropout(x, self.dropout)

        if not batched:
            return ops.squeeze(x, 1), [ops.squeeze(ops.stack(s), 1) for s in zip(*finals, strict=True)]
        return ops.swapaxes(x, 0, 1) if self.batch_first else x, [ops.stack(s) for s in zip(*finals, strict=True)]

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, num_layers={self.num_layers}, bidirectional={self.bidirectional}"


class RNN(_Recurrent):
    """h_t = φ(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh); arguments, shapes and names as in `LSTM`.

    nonlinearity φ: 'tanh', 'relu' or 'sigmoid'. single_bias: one bias, bias_h_l0 and so on, instead
    of the two, of which only the sum matters. Weights (H, in) and (H, H). Elman 1990.
    """

    op = ops.rnn

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        single_bias: bool = False,
    ) -> None:
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, single_bias)
        check_nonlinearity(nonlinearity)
        self.settings = {"nonlinearity": nonlinearity}

    def forward(self, x: Tensor, hx: Tensor | None = None, *, lengths: Lengths | None = None) -> tuple[Tensor, Tensor]:
        """Returns (output, h_n) from x and the initial state h_0."""
        y, (h,) = self.scan(x, [hx], lengths)
        return y, h


class GRU(_Recurrent):
    """Gated recurrent units; arguments, shapes and names as in `LSTM`, weights (3H, in) and (3H, H).

    h_t = (1 - z) n + z h_{t-1}, n = tanh(W_in x_t + b_in + r (W_hn h_{t-1} + b_hn)), the reset gate r and
    the update gate z are σ of such sums; blocks in the order r, z, n. Cho et al. 2014, arXiv:1406.1078.
    """

    op = ops.gru
    gates = 3

    def forward(self, x: Tensor, hx: Tensor | None = None, *, lengths: Lengths | None = None) -> tuple[Tensor, Tensor]:
        """Returns (output, h_n) from x and the initial state h_0."""
        y, (h,) = self.scan(x, [hx], lengths)
        return y, h


class LSTM(_Recurrent):
    """Long short-term memory: c_t = f c_{t-1} + i g, h_t = o tanh(c_t).  Hochreiter & Schmidhuber 1997.

    i, f, o = σ and g = tanh of W_ih x_t + b_ih + W_hh h_{t-1} + b_hh, blocks in the order i, f, g, o.
    Parameters of layer k: weight_ih_lk (4H, in), weight_hh_lk (4H, H), bias_ih_lk and bias_hh_lk (4H,),
    and the same with _reverse if bidirectional (D = 2 directions, else D = 1); in is input_size for
    k = 0, then D H. All are initially U(-1/√H, 1/√H), as in PyTorch.
    x (T, N, in), (N, T, in) if batch_first, or (T, in) -> output, the top layer's h_t, shaped like x with
    D H instead of in, the directions side by side; states (num_layers D, N, H), or without N for x (T, in).
    lengths: N integers from 1 to T, the length of each sequence; beyond it x is not read and the output
    is 0, the final states are those at the sequence's last step, and the reverse direction starts there.
    dropout: between layers, in training. Raises ConfigError, ShapeError.
    """

    op = ops.lstm
    gates = 4

    def forward(
        self, x: Tensor, hx: tuple[Tensor, Tensor] | None = None, *, lengths: Lengths | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Returns (output, (h_n, c_n)) from x and the initial states (h_0, c_0)."""
        y, (h, c) = self.scan(x, _pair(hx), lengths)
        return y, (h, c)


def _pair(hx: tuple[Tensor, Tensor] | None) -> Sequence[Tensor | None]:
    """Returns (h, c) of an LSTM. Raises ShapeError for anything but two states."""
    if hx is not None and not (isinstance(hx, (tuple, list)) and len(hx) == 2):
        raise ShapeError(f"an LSTM starts from a pair (h, c), got {type(hx).__name__}")
    return (None, None) if hx is None else hx


class _Cell(_Weights):
    """One step, as a sequence of length 1: x (N, in) or (in,), states (N, H) or (H,)."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, single_bias: bool = False) -> None:
        super().__init__(input_size, hidden_size, bias, single_bias)
        self.add_parameters(input_size)

    def step(self, x: Tensor, states: Sequence[Tensor | None]) -> list[Tensor]:
        """Returns the states after x."""
        self.check_input(x, (1, 2))
        expected = (*x.shape[:-1], self.hidden_size)
        for s in states:
            if s is not None and s.shape != expected:
                raise ShapeError(f"{type(self).__name__}: a state has shape {s.shape}, expected {expected} for x of {x.shape}")
        if x.ndim == 1:
            x, states = ops.expand_dims(x, 0), [None if s is None else ops.expand_dims(s, 0) for s in states]
        _, *after = self.run(ops.expand_dims(x, 0), states)
        return [ops.reshape(s, expected) for s in after]


class RNNCell(_Cell):
    """One step of `RNN`: h = φ(W_ih x + b_ih + W_hh h + b_hh).

    weight_ih (H, in), weight_hh (H, H), bias_ih and bias_hh (H,), or only bias_h with single_bias:
    RNNCell(..., nonlinearity='sigmoid', single_bias=True) is h = σ(W_hh h + W_xh x + b_h).
    """

    op = ops.rnn

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh", *, single_bias: bool = False
    ) -> None:
        super().__init__(input_size, hidden_size, bias, single_bias)
        check_nonlinearity(nonlinearity)
        self.settings = {"nonlinearity": nonlinearity}

    def forward(self, x: Tensor, hx: Tensor | None = None) -> Tensor:
        """Returns the next h from x (N, in) and h (N, H), zeros by default; N may be absent."""
        return self.step(x, [hx])[0]


class GRUCell(_Cell):
    """One step of `GRU`: weight_ih (3H, in), weight_hh (3H, H), bias_ih and bias_hh (3H,)."""

    op = ops.gru
    gates = 3

    def forward(self, x: Tensor, hx: Tensor | None = None) -> Tensor:
        """Returns the next h from x (N, in) and h (N, H), zeros by default; N may be absent."""
        return self.step(x, [hx])[0]


class LSTMCell(_Cell):
    """One step of `LSTM`: weight_ih (4H, in), weight_hh (4H, H), bias_ih and bias_hh (4H,)."""

    op = ops.lstm
    gates = 4

    def forward(self, x: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Returns the next (h, c) from x (N, in) and (h, c), each (N, H), zeros by default; N may be absent."""
        h, c = self.step(x, _pair(hx))
        return h, c
