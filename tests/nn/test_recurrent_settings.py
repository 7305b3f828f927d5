"""RNN, LSTM, GRU and their cells: initial values, state dicts, and the settings and shapes that they refuse."""

import numpy as np
import pytest
import torch
from helpers import load_twin
from recurrent_pairs import KINDS, kinds

from tinylm import Tensor, manual_seed, nn
from tinylm.errors import CheckpointError, ConfigError, ShapeError


@kinds
def test_a_float32_state_dict_loads_and_another_is_refused(kind):
    theirs = getattr(torch.nn, kind)(3, 4, num_layers=2, bidirectional=True)
    ours = getattr(nn, kind)(3, 4, num_layers=2, bidirectional=True)
    load_twin(ours, theirs, "float32")
    with pytest.raises(CheckpointError, match="missing 'weight_ih_l0_reverse'"):
        ours.load_state_dict(getattr(torch.nn, kind)(3, 4, num_layers=2).state_dict())


@pytest.mark.parametrize("kind", KINDS + [f"{kind}Cell" for kind in KINDS])
def test_initial_values(kind):
    """U(-1/√H, 1/√H), also for biases, and the same numbers from the same seed."""
    made = []
    for _ in range(2):
        manual_seed(5)
        made.append(getattr(nn, kind)(40, 64).state_dict())
    for name, value in made[0].items():
        np.testing.assert_array_equal(value, made[1][name])
        assert value.dtype == np.float32
        assert np.abs(value).max() <= 1 / 8
        assert np.isclose(value.std(), 1 / 8 / np.sqrt(3), rtol=0.2 if value.ndim == 1 else 0.02)
        assert abs(value.mean()) < 0.03


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_size": 0}, "input_size is 0: expected at least 1"),
        ({"hidden_size": -1}, "hidden_size is -1"),
        ({"num_layers": 0}, "num_layers is 0"),
        ({"dropout": 1.5}, "dropout probability 1.5 is out of range"),
    ],
)
def test_invalid_settings(kind, arguments, message):
    with pytest.raises(ConfigError, match=message):
        getattr(nn, kind)(**{"input_size": 3, "hidden_size": 4} | arguments)


@pytest.mark.parametrize("kind", ["RNN", "RNNCell"])
def test_an_unknown_nonlinearity(kind):
    with pytest.raises(ConfigError, match="nonlinearity 'gelu': expected 'tanh', 'relu' or 'sigmoid'"):
        getattr(nn, kind)(3, 4, nonlinearity="gelu")


@kinds
def test_shapes_that_do_not_fit(kind):
    ours, cell = getattr(nn, kind)(3, 4, num_layers=2), getattr(nn, f"{kind}Cell")(3, 4)

    def states(*shape):
        s = Tensor(np.zeros(shape, "float32"))
        return (s, s) if kind == "LSTM" else s

    def x(*shape):
        return Tensor(np.zeros(shape, "float32"))

    for bad in (x(5, 2, 4), x(3), x(1, 5, 2, 3)):
        with pytest.raises(ShapeError, match=f"{kind}: x has shape"):
            ours(bad)
    with pytest.raises(ShapeError, match="at least one step"):
        ours(x(0, 2, 3))
    for bad in (states(1, 2, 4), states(2, 3, 4), states(2, 2, 3), states(2, 4), states(2, 2, 4, 1)):
        with pytest.raises(ShapeError, match=r"initial state .* expected \(2, 2, 4\)"):
            ours(x(5, 2, 3), bad)
    with pytest.raises(ShapeError, match=r"initial state .* expected \(2, 4\)"):
        ours(x(5, 3), states(2, 1, 4))
    with pytest.raises(ShapeError, match="length 6 is out of range: expected 1 to 5"):
        ours(x(5, 2, 3), lengths=[6, 1])
    for bad in (x(2, 4), x(1, 2, 3)):
        with pytest.raises(ShapeError, match=f"{kind}Cell: x has shape"):
            cell(bad)
    for bad in (states(1, 4), states(2, 5), states(4)):
        with pytest.raises(ShapeError, match=r"a state .* expected \(2, 4\)"):
            cell(x(2, 3), bad)


@pytest.mark.parametrize("kind", ["LSTM", "LSTMCell"])
def test_an_lstm_wants_two_states(kind):
    x, h = Tensor(np.zeros((5, 2, 3), "float32")), Tensor(np.zeros((1, 2, 4), "float32"))
    for wrong in (h, (h,), (h, h, h)):
        with pytest.raises(ShapeError, match="pair"):
            getattr(nn, kind)(3, 4)(x if kind == "LSTM" else x[0], wrong)
