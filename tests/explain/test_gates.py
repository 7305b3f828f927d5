"""tinylm.explain.gate_values: gates computed by hand, and states that equal the layers' own."""

import dataclasses

import numpy as np
import pytest

from tinylm import Tensor, explain, nn
from tinylm.errors import ConfigError
from tinylm.explain.gate_pictures import draw_gates
from tinylm.models import GPT, GPTConfig, RNNModel
from tinylm.models.classifier import LSTMClassifier

LOG3 = np.log(3)  # σ(log 3) = 3/4, tanh(log 3) = 4/5


def sequence(steps=5, batch=3, width=4, dtype=np.float64):
    return Tensor(np.random.default_rng(0).standard_normal((steps, batch, width)).astype(dtype))


def test_an_lstm_of_one_unit_by_hand():
    """Two steps of x = 1 with gates that depend on the input alone: i = 3/4, f = 1/4, g = 4/5, o = 1/2."""
    layer = nn.LSTM(1, 1, bias=False).to(dtype=np.float64)
    layer.load_state_dict({"weight_ih_l0": np.array([[LOG3], [-LOG3], [LOG3], [0.0]]), "weight_hh_l0": np.zeros((4, 1))})
    (only,) = explain.gate_values(layer, Tensor(np.ones((2, 1, 1))))
    assert (only.name, only.kind) == ("rnn.0", "lstm")
    expected = {"input": [0.75, 0.75], "forget": [0.25, 0.25], "candidate": [0.8, 0.8], "output": [0.5, 0.5], "c": [0.6, 0.75]}
    for name, values in expected.items():
        np.testing.assert_allclose(only.values[name].ravel(), values, rtol=1e-12, err_msg=name)
    np.testing.assert_allclose(only.values["h"].ravel(), [0.5 * np.tanh(0.6), 0.5 * np.tanh(0.75)], rtol=1e-12)


def test_a_gru_of_one_unit_by_hand():
    """r = 1/4 and z = 3/4 from the input; n = tanh(r b) with b = 4 log 3 from the hidden bias."""
    layer = nn.GRU(1, 1).to(dtype=np.float64)
    layer.load_state_dict({
        "weight_ih_l0": np.array([[-LOG3], [LOG3], [0.0]]), "weight_hh_l0": np.zeros((3, 1)),
        "bias_ih_l0": np.zeros(3), "bias_hh_l0": np.array([0, 0, 4 * LOG3]),
    })  # fmt: skip
    (only,) = explain.gate_values(layer, Tensor(np.ones((2, 1, 1))))
    assert (only.name, only.kind) == ("rnn.0", "gru")
    for name, values in {"reset": [0.25] * 2, "update": [0.75] * 2, "candidate": [0.8] * 2, "h": [0.2, 0.35]}.items():
        np.testing.assert_allclose(only.values[name].ravel(), values, rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu", "sigmoid"])
def test_an_rnns_states(nonlinearity):
    layer = nn.RNN(4, 6, nonlinearity=nonlinearity).to(dtype=np.float64)
    start = Tensor(np.random.default_rng(1).standard_normal((1, 3, 6)))
    y, _ = layer(sequence(), start)
    (only,) = explain.gate_values(layer, sequence(), start)
    assert (list(only.values), only.kind) == (["h"], "rnn")
    np.testing.assert_allclose(only.values["h"], y.numpy(), rtol=1e-12)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_layers_directions_lengths_and_first_states(kind):
    layer = kind(4, 6, num_layers=2, bidirectional=True).to(dtype=np.float64)
    lengths = np.array([5, 2, 4])
    states = [Tensor(np.random.default_rng(i).standard_normal((4, 3, 6))) for i in range(2)]
    first = tuple(states) if kind is nn.LSTM else states[0]
    y, last = layer(sequence(), first, lengths=lengths)
    found = explain.gate_values(layer, sequence(), first, lengths=lengths)
    assert [g.name for g in found] == ["rnn.0", "rnn.0.reverse", "rnn.1", "rnn.1.reverse"]
    runs = np.arange(5)[:, None] < lengths
    for g in found:
        for values in g.values.values():
            np.testing.assert_array_equal(np.isnan(values), np.broadcast_to(~runs[..., None], values.shape))
    top = np.concatenate([found[2].values["h"], found[3].values["h"]], axis=2)
    np.testing.assert_allclose(top[runs], y.numpy()[runs], rtol=1e-10)
    if kind is nn.LSTM:
        cells = last[1].numpy()
        np.testing.assert_allclose(found[3].values["c"][0], cells[3], rtol=1e-10)
        np.testing.assert_allclose([found[2].values["c"][n - 1, i] for i, n in enumerate(lengths)], cells[2], rtol=1e-10)


def test_the_projects_models():
    model = RNNModel("lstm", 11, 8, 6, 2, dropout=0.0)
    ids = np.random.default_rng(0).integers(0, 11, (5, 2))
    hidden, _ = model.rnn(model.encoder(Tensor(ids)))
    found = explain.gate_values(model, Tensor(ids))
    assert [g.name for g in found] == ["rnn.0", "rnn.1"]
    np.testing.assert_allclose(found[1].values["h"], hidden.numpy(), rtol=1e-4, atol=1e-6)

    model = LSTMClassifier(11, 8, 6)
    found = explain.gate_values(model, Tensor(ids.T), np.array([5, 3]))
    assert [g.name for g in found] == ["rnn.0", "rnn.0.reverse"]

    model = GPT(GPTConfig(vocab_size=11, block_size=8, n_layer=1, n_head=2, n_embd=8))
    assert explain.gate_values(model, Tensor(ids.T)) == []


def test_without_a_model():
    layer = nn.GRU(4, 6)
    y, _ = layer(sequence(dtype=np.float32))
    with pytest.raises(ConfigError, match=r"got Tensor: expected the model and its inputs, gate_values\(model, ids\)"):
        explain.gate_values(y)


def test_the_picture():
    gru, rnn = nn.GRU(4, 6).to(dtype=np.float64), nn.RNN(6, 5).to(dtype=np.float64)
    layers = [*explain.gate_values(gru, sequence()), *explain.gate_values(rnn, gru(sequence())[0])]
    layers = [dataclasses.replace(layer, name=f"{layer.kind} {i}") for i, layer in enumerate(layers)]
    figure = draw_gates(layers, list("abcde"))
    shown = {axes.get_title(): axes for axes in figure.axes if axes.get_title()}
    assert list(shown) == ["gru 0, reset", "gru 0, update", "gru 0, candidate", "gru 0, h", "rnn 1, h"]
    np.testing.assert_array_equal(shown["gru 0, update"].images[0].get_array(), layers[0].values["update"][:, 0].T)
    assert shown["gru 0, update"].images[0].get_clim() == (0, 1)
    assert shown["rnn 1, h"].images[0].get_clim() == (-1, 1)
    assert [label.get_text() for label in shown["rnn 1, h"].get_xticklabels()] == list("abcde")
