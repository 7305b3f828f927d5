"""Activations as layers and within Transformer layers, compared with torch.nn's."""

import copy
import functools
import inspect

import numpy as np
import pytest
import torch
from helpers import assert_parity, randomise

from tinylm import Tensor, nn, ops
from tinylm.engine.kernels import launches, using
from tinylm.errors import ConfigError
from tinylm.nn.activations import ACTIVATIONS

LAYERS = [
    ("Identity", {}), ("ReLU", {}), ("LeakyReLU", {}), ("LeakyReLU", {"negative_slope": 0.3}), ("ELU", {}), ("ELU", {"alpha": 0.7}),
    ("GELU", {}), ("GELU", {"approximate": "tanh"}), ("SiLU", {}), ("Sigmoid", {}), ("Tanh", {}), ("Softplus", {}),
    ("Softplus", {"beta": 2.5}), ("Softmax", {"dim": 1}), ("Softmax", {"dim": -1}), ("LogSoftmax", {"dim": 0}),
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("name", "settings"), LAYERS)
def test_a_layer_equals_pytorchs(name, settings, dtype):
    x = 3 * np.random.default_rng(0).standard_normal((4, 3, 5))
    ours, theirs = getattr(nn, name)(**settings), getattr(torch.nn, name)(**settings)
    assert_parity(nn.Sequential(ours), torch.nn.Sequential(theirs), [x], dtype=dtype)
    assert not ours.state_dict()
    if name not in ("Identity", "Softmax", "LogSoftmax"):  # there is no default for dim
        mine, other = (inspect.signature(getattr(package, name).__init__).parameters for package in (nn, torch.nn))
        assert {key: p.default for key, p in mine.items()}.items() <= {key: p.default for key, p in other.items()}.items()
    assert repr(ours) == f"{name}({', '.join(f'{key}={value!r}' for key, value in settings.items())})" or not settings


def test_layers_take_arrays_and_stay_within_a_sequence():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2), nn.LogSoftmax(-1))
    assert list(model.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    x = np.ones((5, 3), np.float32)
    np.testing.assert_allclose(np.exp(model(x).numpy()).sum(-1), 1, rtol=1e-6)
    assert "approximate='tanh'" in repr(nn.GELU("tanh"))
    np.testing.assert_array_equal(nn.Identity(54, unused=1)(Tensor(x)).numpy(), x)


def test_softplus_does_not_overflow():
    x = np.array([-1000.0, -30.0, 0.0, 30.0, 1000.0])
    y = nn.Softplus(2.0)(Tensor(x)).numpy()
    np.testing.assert_allclose(y, [0, np.log1p(np.exp(-60.0)) / 2, np.log(2) / 2, 30 + np.log1p(np.exp(-60.0)) / 2, 1000], rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.GELU("tan"), "approximate 'tan': expected one of none, tanh; did you mean 'tanh'"),
        (lambda: nn.Softmax(1.5), "dim is 1.5: expected an integer"),
        (lambda: nn.Softplus(0), "beta is 0: expected more than 0"),
        (lambda: nn.Softplus(np.inf), "beta is inf: expected a finite number"),
        (lambda: nn.ELU(None), "alpha is None: expected a finite number"),
        (lambda: nn.LeakyReLU(np.nan), "negative_slope is nan: expected a finite number"),
        (lambda: nn.TransformerEncoderLayer(8, 2, activation=3), "activation 3: expected one of relu"),
        (
            lambda: nn.TransformerEncoderLayer(8, 2, activation=nn.ReLU),
            r"activation is the class .*: expected an instance, such as ReLU\(\)",
        ),
    ],
)
def test_settings_that_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


# ---------------------------------------------------------------- within Transformer layers

THEIRS = {
    "relu": torch.nn.functional.relu, "gelu": torch.nn.functional.gelu, "silu": torch.nn.functional.silu, "sigmoid": torch.sigmoid,
    "tanh": torch.tanh, "leaky_relu": torch.nn.functional.leaky_relu, "elu": torch.nn.functional.elu,
    "softplus": torch.nn.functional.softplus,
}  # fmt: skip
PAIRS = [(ours, THEIRS[ours]) for ours in ACTIVATIONS]
PAIRS += [
    (ops.relu, THEIRS["relu"]), (ops.tanh, torch.tanh),
    (nn.GELU("tanh"), functools.partial(torch.nn.functional.gelu, approximate="tanh")),  # PyTorch's copy of a decoder layer loses a module
    (lambda x: ops.relu(x) ** 2, lambda x: torch.relu(x) ** 2),
]  # fmt: skip


@pytest.mark.parametrize("kind", ["Encoder", "Decoder"])
@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_every_activation_in_a_stack_equals_pytorch(kind, ours, theirs):
    rng = np.random.default_rng(1)
    made = []
    for package, activation in ((nn, ours), (torch.nn, theirs)):
        layer = getattr(package, f"Transformer{kind}Layer")(8, 2, 12, 0.0, activation)
        more = {"enable_nested_tensor": False} if kind == "Encoder" and package is torch.nn else {}
        made.append(getattr(package, f"Transformer{kind}")(layer, 2, **more))
    randomise(made[1], rng)
    inputs = [rng.standard_normal((4, 2, 8))] * (1 if kind == "Encoder" else 2)
    assert_parity(*made, inputs)


class Swish(nn.Module):
    """x σ(b x) with a trained b: an activation that has a parameter."""

    def __init__(self):
        super().__init__()
        self.b = nn.Parameter(np.ones(1))

    def forward(self, x):
        return x * ops.sigmoid(x * self.b)


class TorchSwish(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.b = torch.nn.Parameter(torch.ones(1))

    def forward(self, x):
        return x * torch.sigmoid(x * self.b)


def test_an_activation_with_a_parameter_is_part_of_the_state():
    rng = np.random.default_rng(2)
    ours = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 12, 0.0, Swish()), 2)
    theirs = torch.nn.TransformerEncoder(torch.nn.TransformerEncoderLayer(8, 2, 12, 0.0, TorchSwish()), 2, enable_nested_tensor=False)
    randomise(theirs, rng)
    assert_parity(ours, theirs, [rng.standard_normal((4, 2, 8))])
    assert [name for name in ours.state_dict() if "activation" in name] == ["layers.0.activation.b", "layers.1.activation.b"]
    twin = copy.deepcopy(ours)
    assert twin.layers[0].activation is not ours.layers[0].activation is not ours.layers[1].activation
    twin.load_state_dict({name: array + 1 for name, array in ours.state_dict().items()})
    np.testing.assert_array_equal(twin.layers[0].activation.b.data, ours.layers[0].activation.b.data + 1)


@pytest.mark.parametrize("name", ["relu", "gelu"])
def test_the_usual_activations_stay_one_op_with_their_product(name):
    """To the last bit: named or given as the op, the layer calls linear with its activation and the activation's op never."""
    x = Tensor(np.random.default_rng(3).standard_normal((4, 2, 8)).astype(np.float32))
    layer = nn.TransformerEncoderLayer(8, 2, 12, activation=name).eval()
    with using("auto"):
        before = launches[name, "cpu"]
        y = layer(x).numpy()
        layer.activation = getattr(ops, name)
        np.testing.assert_array_equal(layer(x).numpy(), y)
        assert launches[name, "cpu"] == before
        h = layer.norm1(x + layer.self_attn(x, x, x, need_weights=False)[0])
        by_hand = layer.norm2(layer.linear2(layer.linear1(h, activation=name), h))
    np.testing.assert_allclose(by_hand.numpy(), y, rtol=1e-6, atol=1e-6)
