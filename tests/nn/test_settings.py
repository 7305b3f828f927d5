"""What layers, and the ops that take their settings, refuse: probabilities, sizes, eps, and what an adapter is made from."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import tinylm
from tinylm import nn, ops
from tinylm.engine.kernels import using
from tinylm.errors import CheckpointError, ConfigError
from tinylm.models import GPT, GPTConfig
from tinylm.nn.lora import adapt, adapter_arrays, load_adapters

NO_FRACTION = [math.nan, math.inf, -0.1, 1.001, "0.5", True, None, [0.5], np.array([0.5, 0.5]), np.float32(2), 10**400]
X = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
TARGETS = np.array([0, 3, 1])
OPS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "label_smoothing": lambda x, targets, value: ops.cross_entropy(x, targets, label_smoothing=value),
    "dropout": lambda x, targets, value: ops.dropout(x, value, key=(0, 0)),
    "attention": lambda x, targets, value: ops.scaled_dot_product_attention(x, x, x, dropout=value, key=(0, 0)),
}


@pytest.mark.parametrize("which", ["auto", "reference"])
@pytest.mark.parametrize("name", OPS)
def test_a_fraction_outside_0_to_1_is_refused_by_the_op_and_its_kernel(name: str, which: str) -> None:
    with using(which):
        for value in NO_FRACTION:
            with pytest.raises(ConfigError, match="out of range: expected 0 to 1"):
                OPS[name](X, TARGETS, value)
        for value in (np.float32(0.25), np.float64(0.25), np.array(0.25), 0, 1):
            y, expected = (OPS[name](X, TARGETS, v).numpy() for v in (value, float(value)))
            assert y.dtype == np.float32
            np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("name", OPS)
def test_on_a_gpu(cuda: Any, name: str) -> None:
    x, targets = cuda.asarray(X), cuda.asarray(TARGETS)
    for value in NO_FRACTION:
        with pytest.raises(ConfigError, match="out of range: expected 0 to 1"):
            OPS[name](x, targets, value)
    for value in (np.float32(0.25), np.array(0.25)):
        np.testing.assert_array_equal(OPS[name](x, targets, value).numpy(), OPS[name](x, targets, 0.25).numpy())


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0, 1.1])
def test_label_smoothing_is_pytorchs(value: float) -> None:
    x, targets = torch.from_numpy(X), torch.from_numpy(TARGETS)
    try:
        expected = torch.nn.functional.cross_entropy(x, targets, label_smoothing=value).item()
    except RuntimeError:
        with pytest.raises(ConfigError):
            ops.cross_entropy(X, TARGETS, label_smoothing=value)
    else:
        assert ops.cross_entropy(X, TARGETS, label_smoothing=value).item() == pytest.approx(expected, rel=1e-6)


LAYERS: dict[str, Callable[[Any], nn.Module]] = {
    "Dropout": lambda p: nn.Dropout(p),
    "MultiheadAttention": lambda p: nn.MultiheadAttention(4, 2, p),
    "LSTM": lambda p: nn.LSTM(4, 4, 2, dropout=p),
    "TransformerEncoderLayer": lambda p: nn.TransformerEncoderLayer(4, 2, 8, p),
    "PositionalEncoding": lambda p: nn.PositionalEncoding(4, p),
    "GPT": lambda p: GPT(GPTConfig(8, 8, 1, 2, 4, dropout=p)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_dropout_of_layers(name: str) -> None:
    for value in NO_FRACTION:
        with pytest.raises(ConfigError, match=r"dropout probability .* is out of range"):
            LAYERS[name](value)
    for module in LAYERS[name](np.float32(0.25)).modules():
        assert type(getattr(module, "p", 0.25)) is float


@pytest.mark.parametrize("value", [math.nan, -0.5, 2.0])
def test_a_probability_that_was_set_later_is_not_taken_for_none(value: float) -> None:
    layer, lstm, attention = nn.Dropout(0.5), nn.LSTM(4, 4, 2, dropout=0.5), nn.MultiheadAttention(4, 2, 0.5)
    layer.p = lstm.dropout = attention.dropout = value
    x = tinylm.Tensor(X[:, None])
    for run in (lambda: layer(x), lambda: lstm(x), lambda: attention(x, x, x)):
        with pytest.raises(ConfigError, match="dropout probability"):
            run()


NO_SIZE = [-1, 1.5, math.nan, math.inf, "3", True, None]


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("in_features", lambda n: nn.Linear(n, 3)),
        ("out_features", lambda n: nn.Linear(3, n)),
        ("num_embeddings", lambda n: nn.Embedding(n, 3)),
        ("embedding_dim", lambda n: nn.Embedding(3, n)),
        ("normalized_shape", lambda n: nn.LayerNorm(n)),
        ("normalized_shape", lambda n: nn.RMSNorm((2, n))),
        ("num_heads", lambda n: nn.MultiheadAttention(4, n)),
        ("embed_dim", lambda n: nn.MultiheadAttention(n, 1)),
        ("input_size", lambda n: nn.GRU(n, 3)),
        ("hidden_size", lambda n: nn.RNNCell(3, n)),
        ("num_layers", lambda n: nn.LSTM(3, 3, n)),
        ("num_layers", lambda n: nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8), n)),
        ("d_model", lambda n: nn.PositionalEncoding(n)),
        ("max_len", lambda n: nn.PositionalEncoding(4, 0.0, n)),
        ("n_layer", lambda n: GPTConfig(n_layer=n)),
    ],
)
def test_sizes(name: str, make: Callable[[Any], Any]) -> None:
    for value in NO_SIZE:
        with pytest.raises(ConfigError, match=name):
            make(value)
    make(np.int64(2))
    make(np.int32(4))


def test_more_sizes() -> None:
    for n in (0, -1, 1.5, "4"):
        for setting in ("kdim", "vdim"):
            with pytest.raises(ConfigError, match=f"{setting} is "):
                nn.MultiheadAttention(4, 2, **{setting: n})
    with pytest.raises(ConfigError, match=r"padding_idx is 1\.5: expected an integer"):
        nn.Embedding(4, 2, 1.5)  # type: ignore[arg-type]
    assert nn.Linear(0, 2)(np.ones((3, 0), np.float32)).shape == (3, 2)


@pytest.mark.parametrize("make", [nn.LayerNorm, nn.RMSNorm])
def test_eps(make: Any) -> None:
    for value in (-1e-5, math.nan, math.inf, "1e-5", True):
        with pytest.raises(ConfigError, match=r"^eps is "):
            make(4, value)
    with using("reference"):
        assert make(4, np.float64(1e-5))(X).dtype == np.float32
    make(4, 0)


# ---------------------------------------------------------------- adapters


def gpt() -> GPT:
    return GPT(GPTConfig(8, 8, 2, 2, 4))


@pytest.mark.parametrize(
    ("rank", "alpha", "message"),
    [
        (2, math.nan, "alpha is nan"),
        (2, math.inf, "alpha is inf"),
        (2, "16", "alpha is '16'"),
        (2, True, "alpha is True"),
        (2, None, "alpha is None"),
        (math.nan, 16.0, "rank is nan: expected an integer"),
        (1.5, 16.0, r"rank is 1\.5"),
        ("2", 16.0, "rank is '2'"),
        (True, 16.0, "rank is True"),
        (2, 0, "alpha is 0.*: expected more than 0"),
        (2, -1, "alpha is -1.*: expected more than 0"),
        (0, 16.0, "rank is 0: expected 1 to 4"),
        (5, 16.0, "rank is 5: expected 1 to 4"),
    ],
)
def test_a_wrong_adapter_leaves_the_model_as_it_was(rank: Any, alpha: Any, message: str) -> None:
    model = gpt()
    with pytest.raises(ConfigError, match=message):
        adapt(model, rank, alpha, lambda path: ".attn." in path)
    assert all(p.requires_grad for p in model.parameters())
    assert not adapter_arrays(model)


def test_numpys_numbers_in_an_adapter() -> None:
    layer = nn.lora.LowRankLinear(nn.Linear(4, 4), np.int64(2), np.float64(3))
    assert type(layer.scale) is float
    assert layer.merged().weight.dtype == np.float32


def test_adapters_from_elsewhere_do_not_overwrite_the_model() -> None:
    model = gpt()
    adapt(model, 2, 4.0, lambda path: ".attn." in path)
    before = model.state_dict()
    arrays = {name: array.copy() for name, array in adapter_arrays(model).items()}
    with pytest.raises(CheckpointError, match=r"unexpected 'transformer\.wpe\.weight', which is no adapter"):
        load_adapters(model, {**arrays, "transformer.wpe.weight": np.zeros((8, 4), np.float32)})
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
