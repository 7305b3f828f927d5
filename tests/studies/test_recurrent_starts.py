"""Initial weights of plain RNNs, by what they do to a state."""

import numpy as np
import pytest

from tinylm.engine.random_keys import Generator, drawing_from
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError
from tinylm.models import RNNModel
from tinylm.studies.recurrent_starts import STARTS, orthogonal, start_recurrent

HIDDEN = 16


def built(nonlinearity: str, start: str, seed: int = 0, layers: int = 1) -> RNNModel:
    with drawing_from(Generator(seed)):
        model = RNNModel("rnn", 5, 4, HIDDEN, layers, 0.0, nonlinearity=nonlinearity)
        start_recurrent(model, start)
    return model


def weights(model: RNNModel, layer: int = 0) -> list[np.ndarray]:
    named = dict(model.rnn.named_parameters())
    return [named[f"{name}_l{layer}"].numpy() for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]


@pytest.mark.parametrize(("nonlinearity", "gain"), [("tanh", 1), ("relu", np.sqrt(2)), ("sigmoid", 4)])
def test_recurrent_weights_are_the_identity_or_orthogonal(nonlinearity: str, gain: float) -> None:
    expected = 1 if nonlinearity == "relu" else gain
    np.testing.assert_array_equal(weights(built(nonlinearity, "identity"))[1], expected * np.eye(HIDDEN, dtype=np.float32))
    for layer in (0, 1):
        w_ih, w_hh, b_ih, b_hh = weights(built(nonlinearity, "orthogonal", layers=2), layer)
        np.testing.assert_allclose(w_hh @ w_hh.T, gain**2 * np.eye(HIDDEN), atol=1e-5 * gain**2)
        assert 0.0005 < w_ih.std() < 0.004
        assert not b_ih.any()
        np.testing.assert_allclose(b_hh, -w_hh.sum(axis=1) / 2 if nonlinearity == "sigmoid" else 0, atol=1e-5)


def test_sigmoid_starts_as_tanh_does() -> None:
    """σ's state is h = (1 + g) / 2 of tanh's g, for any input, once it starts there; of twice the weights, not of the same."""
    ids = Tensor(np.random.default_rng(0).integers(0, 5, (6, 3)))
    for start in ("identity", "orthogonal"):
        models = {kind: built(kind, start) for kind in ("tanh", "sigmoid")}
        for model in models.values():
            model.to(dtype="float64")
        models["tanh"].rnn.weight_ih_l0.data[...] *= 300  # so that inputs matter
        models["sigmoid"].rnn.weight_ih_l0.data[...] *= 300
        g = models["tanh"].rnn(models["tanh"].encoder(ids))[0].numpy()
        first = Tensor(np.full((1, 3, HIDDEN), 0.5))
        h = models["sigmoid"].rnn(models["sigmoid"].encoder(ids), first)[0].numpy()
        assert np.abs(g).max() > 0.1
        np.testing.assert_allclose(h, (1 + g) / 2, atol=1e-6)  # b_hh was rounded to float32


def test_orthogonal_matrices_are_drawn_anew() -> None:
    with drawing_from(Generator(3)):
        a, b = orthogonal(8), orthogonal(8)
    for q in (a, b):
        np.testing.assert_allclose(q @ q.T, np.eye(8), atol=1e-12)
    assert np.abs(a - b).max() > 0.1
    with drawing_from(Generator(3)):
        np.testing.assert_array_equal(orthogonal(8), a)


def test_a_uniform_start_changes_nothing() -> None:
    with drawing_from(Generator(0)):
        plain = RNNModel("rnn", 5, 4, HIDDEN, 1, 0.0)
    for ours, theirs in zip(weights(built("tanh", "uniform")), weights(plain), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_errors() -> None:
    with pytest.raises(ConfigError, match=f"start is 'zero': expected one of {', '.join(STARTS)}"):
        built("tanh", "zero")
    with pytest.raises(ConfigError, match="start is 'identity': expected plain recurrent layers, not LSTM"):
        start_recurrent(RNNModel("lstm", 5, 4, 4, 1), "identity")
