"""Linear, Embedding, LayerNorm, RMSNorm and Dropout compared with torch.nn: state, defaults, values, gradients."""

import numpy as np
import pytest
import torch
from helpers import assert_parity, randomise, replay_dropout
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tinylm import Tensor, nn
from tinylm.engine.random_keys import Generator, default_generator
from tinylm.errors import ConfigError, RangeError, ShapeError

seeds = st.integers(0, 1000)
dtypes = st.sampled_from(["float64", "float32"])
leading = st.lists(st.integers(1, 4), max_size=3)  # the axes before the last


# ---------------------------------------------------------------- Linear


@given(seed=seeds, lead=leading, width=st.integers(1, 6), out=st.integers(1, 6), bias=st.booleans(), dtype=dtypes)
def test_linear_equals_pytorch(seed, lead, width, out, bias, dtype):
    rng = np.random.default_rng(seed)
    theirs = torch.nn.Linear(width, out, bias)
    randomise(theirs, rng)
    assert_parity(nn.Linear(width, out, bias), theirs, [rng.standard_normal((*lead, width))], dtype=dtype, seed=seed)


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "sigmoid"])
def test_linear_with_activation_and_residual_equals_pytorch(activation):
    rng = np.random.default_rng(0)
    theirs = torch.nn.Linear(4, 3)
    randomise(theirs, rng)
    act = getattr(torch.nn.functional, activation)

    def call(module, x, residual):
        if isinstance(module, nn.Linear):
            return module(x, residual, activation=activation)
        return act(module(x)) + residual

    assert_parity(nn.Linear(4, 3), theirs, [rng.standard_normal((5, 2, 4)), rng.standard_normal((5, 2, 3))], call=call)


def test_linear_starts_uniform():
    layer = nn.Linear(100, 80)
    assert layer.weight.dtype == layer.bias.dtype == np.float32
    for p in (layer.weight, layer.bias):
        assert np.abs(p.data).max() <= 0.1
        assert stats.kstest(p.data.ravel(), stats.uniform(-0.1, 0.2).cdf).pvalue > 1e-3
    assert not np.array_equal(nn.Linear(4, 4).weight.data, nn.Linear(4, 4).weight.data)


def test_linear_errors():
    with pytest.raises(ShapeError, match=r"x has shape \(2, 5\), its last axis should be 4"):
        nn.Linear(4, 3)(Tensor(np.zeros((2, 5), np.float32)))
    with pytest.raises(ConfigError, match="activation 'swish'"):
        nn.Linear(4, 3)(Tensor(np.zeros((2, 4), np.float32)), activation="swish")


# ---------------------------------------------------------------- Embedding


@given(seed=seeds, shape=leading, rows=st.integers(1, 6), width=st.integers(1, 5), dtype=dtypes, data=st.data())
def test_embedding_equals_pytorch(seed, shape, rows, width, dtype, data):
    padding = data.draw(st.one_of(st.none(), st.integers(-rows, rows - 1)))
    rng = np.random.default_rng(seed)
    theirs = torch.nn.Embedding(rows, width, padding)
    ids = rng.integers(0, rows, shape)
    assert_parity(nn.Embedding(rows, width, padding), theirs, [np.asarray(ids)], dtype=dtype, seed=seed)


def test_embedding_starts_normal_and_padding_at_zero():
    layer = nn.Embedding(300, 40)
    assert layer.weight.dtype == np.float32
    assert stats.kstest(layer.weight.data.ravel(), stats.norm.cdf).pvalue > 1e-3
    padded = nn.Embedding(5, 3, padding_idx=-1)
    assert padded.padding_idx == 4
    assert padded.weight.data.any(axis=1).tolist() == [True] * 4 + [False]


def test_embedding_errors():
    layer = nn.Embedding(5, 3)
    for bad in (5, -1):
        with pytest.raises(RangeError, match=f"token id {bad} is out of range: expected 0 to 4"):
            layer(Tensor(np.array([0, bad])))
    with pytest.raises(ShapeError, match="must be an array of integers, got float32"):
        layer(Tensor(np.array([0.0], np.float32)))
    with pytest.raises(ConfigError, match="padding_idx 5 is out of range for 5 embeddings"):
        nn.Embedding(5, 3, padding_idx=5)


# ---------------------------------------------------------------- norms


@given(
    seed=seeds,
    lead=leading,
    shape=st.lists(st.integers(2, 4), min_size=1, max_size=3),
    eps=st.sampled_from([1e-5, 1e-2]),
    affine=st.booleans(),
    bias=st.booleans(),
    dtype=dtypes,
)
def test_layer_norm_equals_pytorch(seed, lead, shape, eps, affine, bias, dtype):
    rng = np.random.default_rng(seed)
    shape = (*shape[:-1], shape[-1] + 4)  # the norm of two numbers is always ±1
    arguments = (shape, eps, affine, bias)
    theirs = torch.nn.LayerNorm(*arguments)
    randomise(theirs, rng)
    assert_parity(nn.LayerNorm(*arguments), theirs, [rng.standard_normal((*lead, *shape)) * 3 + 1], dtype=dtype, seed=seed)


@given(
    seed=seeds,
    lead=leading,
    shape=st.lists(st.integers(2, 6), min_size=1, max_size=3),
    eps=st.sampled_from([None, 1e-2]),
    affine=st.booleans(),
    dtype=dtypes,
)
def test_rms_norm_equals_pytorch(seed, lead, shape, eps, affine, dtype):
    rng = np.random.default_rng(seed)
    arguments = (tuple(shape), eps, affine)
    theirs = torch.nn.RMSNorm(*arguments)
    randomise(theirs, rng)
    assert_parity(nn.RMSNorm(*arguments), theirs, [rng.standard_normal((*lead, *shape)) * 3 + 1], dtype=dtype, seed=seed)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_rms_norm_of_tiny_numbers_shows_the_eps_of_the_dtype(dtype):
    x = np.full((2, 4), 1e-5)
    assert_parity(nn.RMSNorm(4), torch.nn.RMSNorm(4), [x], dtype=dtype)


def test_norms_start_as_the_identity_scale():
    layer = nn.LayerNorm((3, 4))
    np.testing.assert_array_equal(layer.weight.data, np.ones((3, 4), np.float32))
    np.testing.assert_array_equal(layer.bias.data, np.zeros((3, 4), np.float32))
    assert layer.eps == torch.nn.LayerNorm(4).eps
    np.testing.assert_array_equal(nn.RMSNorm(4).weight.data, np.ones(4, np.float32))


def test_a_norm_says_which_axes_it_expected():
    with pytest.raises(ShapeError, match=r"LayerNorm: x has shape \(2, 3, 5\), its last axes should be \(3, 4\)"):
        nn.LayerNorm((3, 4))(Tensor(np.zeros((2, 3, 5), np.float32)))
    with pytest.raises(ShapeError, match=r"RMSNorm: x has shape \(4,\), its last axes should be \(3, 4\)"):
        nn.RMSNorm((3, 4))(Tensor(np.zeros(4, np.float32)))


# ---------------------------------------------------------------- Dropout


@pytest.mark.parametrize(("p", "training", "op"), [(0.5, True, "add"), (0.5, False, "linear"), (0.0, True, "linear")])
def test_a_linear_layer_adds_to_a_residual_in_one_op_unless_something_is_dropped(p, training, op):
    layer, dropout = nn.Linear(3, 4), nn.Dropout(p).train(training)
    rng = np.random.default_rng(0)
    x, residual = (Tensor(rng.standard_normal((2, n)).astype(np.float32), requires_grad=True) for n in (3, 4))
    default_generator.seed(7)
    y = layer.add_to(residual, x, dropout)
    assert y.node.op.name == op
    default_generator.seed(7)
    np.testing.assert_allclose(y.data, (residual + dropout(layer(x))).data, rtol=1e-6, atol=1e-7)


@given(seed=seeds, shape=leading, p=st.sampled_from([0.1, 0.5, 1.0]), dtype=dtypes)
def test_dropout_equals_its_mask(seed, shape, p, dtype):
    generator = Generator()
    theirs = replay_dropout(torch.nn.Sequential(torch.nn.Dropout(p)), generator)
    generator.state = default_generator.state
    x = np.random.default_rng(seed).standard_normal(shape)
    assert_parity(nn.Sequential(nn.Dropout(p)), theirs, [x], dtype=dtype, seed=seed)


def test_dropout_drops_a_fraction_p_and_keeps_the_mean():
    x = Tensor(np.ones((1000, 100), np.float32))
    layer = nn.Dropout(0.3)
    y = layer(x).data
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.7)}
    assert (y == 0).mean() == pytest.approx(0.3, abs=5 * (0.3 * 0.7 / 1e5) ** 0.5)
    assert not np.array_equal(layer(x).data, y)
    assert layer.eval()(x) is x
    assert nn.Dropout(0.0)(x) is x
    assert nn.Dropout().p == torch.nn.Dropout().p
    with pytest.raises(ConfigError, match=r"dropout probability -0\.1 is out of range: expected 0 to 1"):
        nn.Dropout(-0.1)
