"""Norms of Jacobians over a distance: of linear recurrences, where they are known, and against differences."""

import numpy as np
import pytest

from tinylm.decode.stepping import evaluation_mode
from tinylm.engine.random_keys import Generator, drawing_from
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError
from tinylm.models import GPT, GPTConfig, LanguageModel, RNNModel, TransformerModel
from tinylm.studies.recurrent_starts import orthogonal
from tinylm.studies.state_gradients import jacobian_norms, theory

HIDDEN, VOCABULARY = 6, 5
IDS = np.random.default_rng(1).integers(0, VOCABULARY, 8)


def built(kind: str, layers: int = 1, nonlinearity: str = "tanh") -> LanguageModel:
    with drawing_from(Generator(2)):
        if kind == "gpt":
            model: LanguageModel = GPT(GPTConfig(vocab_size=VOCABULARY, block_size=8, n_layer=2, n_head=2, n_embd=HIDDEN))
        else:
            model = RNNModel(kind, VOCABULARY, 3, HIDDEN, layers, 0.5, nonlinearity=nonlinearity)
    return model.to(dtype="float64")


def linear(weight: np.ndarray, nonlinearity: str) -> RNNModel:
    """Returns an RNN without inputs or biases whose state is zero, where tanh is linear; relu's bias keeps all its units on."""
    model = built("rnn", nonlinearity=nonlinearity)
    assert isinstance(model, RNNModel)
    for name, p in model.rnn.named_parameters():
        p.data[...] = weight if name == "weight_hh_l0" else 0
    if nonlinearity == "relu":
        model.rnn.bias_ih_l0.data[...] = 1
    return model


@pytest.mark.parametrize("gain", [0.5, 1.0, 1.2])
def test_an_orthogonal_linear_recurrence_keeps_the_norm_and_a_scaled_one_has_its_powers(gain: float) -> None:
    with drawing_from(Generator(0)):
        q = orthogonal(HIDDEN)
    for weight, nonlinearity in ((gain * q, "tanh"), (gain * np.eye(HIDDEN)[[1, 2, 3, 4, 5, 0]], "relu")):
        model = linear(weight, nonlinearity)
        np.testing.assert_allclose(jacobian_norms(model, IDS), gain ** np.arange(len(IDS)), rtol=1e-10)
        np.testing.assert_allclose(theory(model), gain, rtol=1e-10)


def test_sigmoid_passes_its_slopes_on() -> None:
    """Units that only see themselves: the norm is the product of the slopes h (1 - h) on the way, at most a quarter each."""
    model = linear(np.eye(HIDDEN), "sigmoid")
    model.rnn.bias_ih_l0.data[...] = -0.5
    found = jacobian_norms(model, IDS)
    slopes, h = [], 0.0
    for _ in IDS:
        h = 1 / (1 + np.exp(-(h - 0.5)))
        slopes.append(h * (1 - h))
    np.testing.assert_allclose(found, np.cumprod([1.0, *slopes[:0:-1]]), rtol=1e-10)
    assert theory(model) == (0.25, 0.25)


def test_theory_of_a_matrix_that_is_not_normal() -> None:
    """[[1, 2], [0, 1/2]] lengthens some vectors more than its eigenvalues tell."""
    model = RNNModel("rnn", VOCABULARY, 3, 2, 1, 0.0)
    model.rnn.weight_hh_l0.data[...] = [[1, 2], [0, 0.5]]
    found = theory(model)
    assert found is not None
    assert found.radius == pytest.approx(1)
    assert found.bound == pytest.approx(np.sqrt((21 + np.sqrt(425)) / 8), rel=1e-6)  # of the eigenvalues of W Wᵀ


def test_no_norm_is_beyond_the_bound() -> None:
    model = built("rnn")
    found = theory(model)
    assert found is not None
    assert (jacobian_norms(model, IDS) <= found.bound ** np.arange(len(IDS)) * (1 + 1e-12)).all()


@pytest.mark.parametrize(("kind", "layers"), [("rnn", 1), ("lstm", 1), ("gru", 1), ("lstm", 2)])
def test_states_against_differences(kind: str, layers: int) -> None:
    """J's columns are the changes of the last state when one number of an earlier one changes; h and c of an LSTM are one state."""
    model = built(kind, layers).train()
    found = jacobian_norms(model, IDS)
    assert model.training
    assert found[0] == 1
    with evaluation_mode(model):
        for k in (1, 3, 7):
            state = model.read(Tensor(IDS[None, : len(IDS) - k]))
            start = np.stack([s.numpy() for s in state])

            def last(values: np.ndarray, k: int = k) -> np.ndarray:
                return np.stack([s.numpy() for s in model.read(Tensor(IDS[None, len(IDS) - k :]), [Tensor(v) for v in values])])

            total = 0.0
            for i in np.ndindex(start.shape):
                step = np.zeros_like(start)
                step[i] = 1e-6
                total += np.square((last(start + step) - last(start - step)) / 2e-6).sum()
            np.testing.assert_allclose(found[k], np.sqrt(total / start.size), rtol=1e-7)  # differences of 1e-6 have ten digits


def test_a_gpt_by_its_input_embeddings_against_differences() -> None:
    model = built("gpt")
    assert isinstance(model, GPT)
    found = jacobian_norms(model, IDS)
    trunk = model.transformer
    with evaluation_mode(model):
        x = (trunk.wte(Tensor(IDS)) + trunk.wpe(Tensor(np.arange(len(IDS))))).numpy()[None]

        def last(values: np.ndarray) -> np.ndarray:
            return trunk.ln_f(model.through_blocks(Tensor(values), None)).numpy()[0, -1]

        np.testing.assert_allclose(last(x) @ trunk.wte.weight.numpy().T, model.logits(Tensor(IDS[None])).numpy()[0, -1], rtol=1e-10)
        for k in (0, 1, 7):
            total = 0.0
            for i in range(HIDDEN):
                step = np.zeros_like(x)
                step[0, -1 - k, i] = 1e-6
                total += np.square((last(x + step) - last(x - step)) / 2e-6).sum()
            np.testing.assert_allclose(found[k], np.sqrt(total / HIDDEN), rtol=1e-7)


def test_a_wrong_distance_would_be_noticed() -> None:
    """The norms of neighbouring distances differ by more than the tolerance above."""
    for kind in ("rnn", "lstm", "gru", "gpt"):
        found = jacobian_norms(built(kind), IDS)
        assert np.abs(np.diff(found) / found[1:]).min() > 1e-3


def test_other_models_have_no_such_norms() -> None:
    with pytest.raises(ConfigError, match="model is a TransformerModel: expected a GPT or an RNNModel"):
        jacobian_norms(TransformerModel(VOCABULARY, 8, 2, 12, 1, 0.5), IDS)
    for model in (built("lstm"), built("gpt"), built("rnn", 2)):
        assert theory(model) is None
