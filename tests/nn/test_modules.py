"""Module: names, order, tied weights, buffers, state dicts, devices and dtypes, modes, repr."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tinylm
from tinylm import Tensor, nn, ops
from tinylm.errors import AutogradError, CheckpointError, ConfigError, DeviceError

# ---------------------------------------------------------------- names

trees = st.recursive(st.integers(1, 3), lambda inner: st.lists(inner, max_size=3), max_leaves=8)  # a number: a Linear of that width


def grown(tree, package):
    if isinstance(tree, int):
        return package.Linear(tree, tree + 1, bias=tree != 2)
    return package.Sequential(*(grown(branch, package) for branch in tree))


@given(tree=trees)
def test_names_and_order_are_pytorchs(tree):
    ours, theirs = grown(tree, nn), grown(tree, torch.nn)
    assert [(n, p.shape) for n, p in ours.named_parameters()] == [(n, tuple(p.shape)) for n, p in theirs.named_parameters()]
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [n for n, _ in ours.named_modules()] == [n for n, _ in theirs.named_modules()]
    assert ours.num_parameters() == sum(p.numel() for p in theirs.parameters())
    ours.load_state_dict(theirs.state_dict())
    for name, value in ours.state_dict().items():
        np.testing.assert_array_equal(value, theirs.state_dict()[name].numpy())


class Tied(nn.Module):
    """An embedding that is also the output projection, and buffers of each kind."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(5, 3)
        self.scale = nn.Parameter(np.full(1, 2.0, np.float32))
        self.register_buffer("kept", Tensor(np.arange(3, dtype=np.float32)))
        self.register_buffer("mask", Tensor(np.array([True, False])), persistent=False)
        self.register_buffer("absent", None)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.embedding.weight
        self.plain = Tensor(np.zeros(2, np.float32))  # neither a parameter nor a buffer

    def forward(self, ids):
        return self.head(self.drop(self.embedding(ids) * self.scale))


def test_tied_weights_count_once_and_are_listed_twice():
    model = Tied()
    assert [n for n, _ in model.named_parameters()] == ["scale", "embedding.weight"]
    assert len(list(model.parameters())) == 2
    assert model.num_parameters() == 16
    assert list(model.state_dict()) == ["scale", "kept", "embedding.weight", "head.weight"]
    assert dict(model.named_state())["head.weight"] is model.embedding.weight

    state = {**model.state_dict(), "embedding.weight": np.ones((5, 3)), "head.weight": np.ones((5, 3))}
    model.load_state_dict(state)
    assert model.head.weight is model.embedding.weight
    np.testing.assert_array_equal(model.head.weight.data, np.ones((5, 3)))


def test_the_gradients_of_tied_weights_add_up():
    model = Tied().eval()
    ids, cotangent = np.array([1, 3, 1]), np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
    model(Tensor(ids)).backward(cotangent)
    weight, scale = model.embedding.weight.data, 2.0
    expected = cotangent.T @ (weight[ids] * scale)
    np.add.at(expected, ids, cotangent @ weight * scale)
    np.testing.assert_allclose(model.embedding.weight.grad, expected, rtol=1e-5)


def test_a_deep_copy_is_independent_and_keeps_its_ties():
    model = Tied()
    other, version = copy.deepcopy(model), model.scale.version
    assert other.head.weight is other.embedding.weight
    other.scale.data[:] = 7
    other.scale.bump_version()
    assert model.scale.data[0] == 2
    assert model.scale.version == version


# ---------------------------------------------------------------- state dicts


def test_a_state_dict_is_a_copy():
    model = nn.Linear(2, 2)
    before = model.weight.data.copy()
    state = model.state_dict()
    state["weight"][:] = 0
    np.testing.assert_array_equal(model.weight.data, before)
    model.load_state_dict(state)
    state["weight"][:] = 1
    np.testing.assert_array_equal(model.weight.data, 0)


def test_a_state_that_does_not_fit_names_every_key_and_writes_nothing():
    model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
    before = model.state_dict()
    bad = {"0.weight": np.zeros((3, 2)), "0.bias": np.zeros(4), "1.weight": np.zeros((3, 1)), "2.gamma": np.zeros(1)}
    with pytest.raises(CheckpointError) as error:
        model.load_state_dict(bad)
    assert str(error.value) == (
        "the state does not fit Sequential: missing '1.bias' (3,); unexpected '2.gamma'; "
        "misshapen '0.bias': (4,), expected (3,); misshapen '1.weight': (3, 1), expected (3,)"
    )
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_without_strict_a_state_may_lack_keys_and_have_more_but_not_other_shapes():
    model = nn.Linear(2, 3)
    bias = model.bias.data.copy()
    model.load_state_dict({"weight": np.ones((3, 2)), "other": np.ones(1)}, strict=False)
    np.testing.assert_array_equal(model.weight.data, 1)
    np.testing.assert_array_equal(model.bias.data, bias)
    with pytest.raises(CheckpointError, match="misshapen 'weight'"):
        model.load_state_dict({"weight": np.ones((2, 3))}, strict=False)


@pytest.mark.parametrize("kind", [np.asarray, Tensor, torch.tensor, lambda x: torch.nn.Parameter(torch.tensor(x))])
def test_a_state_may_hold_arrays_and_tensors_of_any_dtype(kind):
    model = nn.Linear(2, 1, bias=False)
    array = model.weight.data
    model.load_state_dict({"weight": kind(np.array([[0.1, 0.2]]))})
    assert model.weight.data is array  # written in place: optimisers hold views of it
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, np.array([[0.1, 0.2]], np.float32))


def test_loading_makes_an_earlier_graph_stale():
    model = nn.Linear(2, 2)
    y = model(Tensor(np.ones((1, 2), np.float32)))
    model.load_state_dict(model.state_dict())
    with pytest.raises(AutogradError, match="changed in place"):
        y.backward(np.ones((1, 2), np.float32))


# ---------------------------------------------------------------- devices, dtypes, modes


def test_to_converts_parameters_gradients_and_floating_buffers_in_place():
    model = Tied().eval()
    parameters = list(model.parameters())
    model(Tensor(np.array([1, 2]))).backward(np.ones((2, 5), np.float32))
    gradient = model.scale.grad.copy()
    assert model.to("cpu", "float64") is model
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    assert all(p.dtype == p.grad.dtype == np.float64 for p in parameters)
    np.testing.assert_array_equal(model.scale.grad, gradient)
    assert {n: b.dtype.name for n, b in model.named_buffers()} == {"kept": "float64", "mask": "bool"}
    assert model.plain.dtype == np.float32
    assert model(Tensor(np.array([1, 2]))).dtype == np.float64
    assert model.to(dtype=np.float32).scale.dtype == np.float32


def test_to_says_what_it_cannot_do():
    model = nn.Linear(2, 2)
    with pytest.raises(DeviceError, match="unknown device 'tpu'"):
        model.to("tpu")
    with pytest.raises(ConfigError, match="dtype int64 for Linear: expected a floating one"):
        model.to(dtype="int64")
    assert model.weight.dtype == np.float32


def test_train_and_eval_reach_every_module():
    model = nn.Sequential(nn.Dropout(0.5), nn.Sequential(nn.Dropout(0.5), nn.Linear(2, 2)))
    assert all(m.training for m in model.modules())
    assert model.eval() is model
    assert not any(m.training for m in model.modules())
    assert model.train() is model
    assert all(m.training for m in model.modules())


def test_apply_visits_children_before_their_parent():
    def visits(package):
        seen = []
        model = package.Sequential(package.Linear(2, 2), package.Sequential(package.Linear(2, 2), package.Dropout()))
        assert model.apply(lambda m: seen.append(type(m).__name__)) is model
        return seen

    assert visits(nn) == visits(torch.nn) == ["Linear", "Linear", "Dropout", "Sequential", "Sequential"]


def test_zero_grad_forgets():
    model = nn.Linear(2, 2)
    model(Tensor(np.ones((1, 2), np.float32))).backward(np.ones((1, 2), np.float32))
    assert model.weight.grad is not None
    model.zero_grad()
    assert model.weight.grad is None
    assert model.bias.grad is None


def test_a_parameter_set_to_none_is_gone():
    model = nn.Linear(2, 2)
    model.bias = None
    assert list(model.state_dict()) == ["weight"]
    assert model(Tensor(np.ones((1, 2), np.float32))).shape == (1, 2)


def test_a_frozen_parameter_gets_no_gradient():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].weight.requires_grad = False
    model(Tensor(np.ones((1, 2), np.float32))).backward(np.ones((1, 2), np.float32))
    assert model[0].weight.grad is None
    assert model[0].bias.grad is not None


# ---------------------------------------------------------------- lists, repr


def test_module_lists():
    members = [nn.Linear(n, n) for n in (1, 2, 3)]
    some = nn.ModuleList(members)
    some.append(nn.Dropout(0.1))
    assert len(some) == 4
    assert list(some)[:3] == members
    assert some[1] is members[1]
    assert some[-1].p == 0.1
    assert [n for n, _ in some.named_parameters()][:3] == ["0.weight", "0.bias", "1.weight"]
    with pytest.raises(NotImplementedError, match="ModuleList has no forward"):
        some(Tensor([1.0]))


def test_sequential_applies_in_order():
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    x = Tensor(np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32))
    np.testing.assert_array_equal(model(x).data, model[2](model[1](model[0](x))).data)
    assert nn.Sequential()(x) is x


def test_repr_shows_the_tree():
    model = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.Embedding(4, 2), nn.Dropout(0.1)), nn.LayerNorm(3))
    assert repr(model) == (
        "Sequential(\n"
        "  (0): Linear(in_features=2, out_features=3, bias=True)\n"
        "  (1): Sequential(\n"
        "    (0): Embedding(4, 2)\n"
        "    (1): Dropout(p=0.1)\n"
        "  )\n"
        "  (2): LayerNorm((3,), eps=1e-05)\n"
        ")"
    )
    assert repr(nn.Sequential()) == "Sequential()"


# ---------------------------------------------------------------- initial weights


def test_initial_weights_follow_the_seed():
    def weights(seed):
        tinylm.manual_seed(seed)
        return nn.TransformerEncoderLayer(8, 2, 8).state_dict()

    first, again, other = weights(1), weights(1), weights(2)
    assert all(np.array_equal(first[n], again[n]) for n in first)
    assert not np.array_equal(first["linear1.weight"], other["linear1.weight"])


def test_filling_counts_as_a_write():
    p = nn.init.zeros((200, 300))
    y = ops.exp(p)
    nn.init.fill_normal(p, 0.02)
    assert p.data.std() == pytest.approx(0.02, rel=0.02)
    with pytest.raises(AutogradError, match="changed in place"):
        y.backward(np.ones((200, 300), np.float32))
    nn.init.fill_uniform(p, 0.3)
    assert 0.299 < np.abs(p.data).max() <= 0.3
    assert p.data.dtype == np.float32
    version = p.version
    nn.init.fill(p, 0.5)
    assert (p.data == 0.5).all()
    assert p.version > version
