"""compare() compares a model with PyTorch: equal ones pass, and the first layer that differs is named."""

import numpy as np
import pytest
import torch
from torch import nn as tnn

import tinylm
from tinylm import nn, ops
from tinylm.errors import ConfigError
from tinylm.verify import compare
from tinylm.verify.torch.layer_calls import recorded, recorded_in_torch


@pytest.fixture
def batch():
    return [np.random.default_rng(0).standard_normal((4, 3))]


def pair():
    """Returns the same small model in tinylm and in PyTorch, with different weights."""
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5), nn.Linear(5, 2))
    return ours, tnn.Sequential(tnn.Linear(3, 5), tnn.LayerNorm(5), tnn.Linear(5, 2))


FORWARD = ["output of 0", "output of 1", "output of 2", "output 0"]
BACKWARD = [
    *("gradient of 2.bias", "gradient of 2.weight", "gradient through 2"),
    *("gradient of 1.bias", "gradient of 1.weight", "gradient through 1"),
    *("gradient of 0.bias", "gradient of 0.weight", "gradient through 0"),
    "gradient of x (argument 0)",
]


def test_equal_models_pass_and_the_rows_go_the_way_of_the_data(batch):
    ours, theirs = pair()
    report = compare(ours, theirs, batch)
    assert report.ok
    assert [row.name for row in report.rows] == FORWARD + BACKWARD
    assert str(report).startswith("Sequential against PyTorch: ok")


def test_every_row_has_all_measures(batch):
    ours, theirs = pair()
    for dtype, eps in (("float64", 1e-15), ("float32", 1e-6)):
        report = compare(ours, theirs, batch, dtype=dtype)
        assert report.ok
        assert ("in float32" in report.title) is (dtype == "float32")
        for row in report.rows:
            assert row.measures["max_abs"] < 20 * eps
            assert row.measures["cosine"] > 1 - eps
            assert row.measures["ulps"] < 1e4
        assert dtype == "float64" or max(row.error for row in report.rows) > 1e-9  # it was run in float32


def test_the_state_is_taken_over_and_nothing_else_changes(batch):
    ours, theirs = pair()
    theirs[0].weight.grad = torch.ones_like(theirs[0].weight)
    compare(ours, theirs, batch)
    for name, p in theirs.named_parameters():
        np.testing.assert_array_equal(ours.state_dict()[name], p.detach().numpy())
    assert all(p.dtype == np.float32 and p.grad is None for p in ours.parameters())
    assert all(p.dtype == torch.float32 for p in theirs.parameters())
    np.testing.assert_array_equal(theirs[0].weight.grad.numpy(), 1)


class Wrong(nn.Module):
    """As pair()'s model, but with a forward or backward pass that is wrong in one place."""

    def __init__(self, fault):
        super().__init__()
        for name, module in pair()[0].named_children():
            setattr(self, name, module)
        self.fault = fault

    def forward(self, x):
        first, norm, last = (getattr(self, n) for n in "012")
        x = self.fault(first(x)) if self.fault is not eps else first(x)
        return last(ops.layer_norm(x, norm.weight, norm.bias, eps=1e-4) if self.fault is eps else norm(x))


@tinylm.op
def wrong_backward(x, /):
    """x, with a gradient 1 % too large."""
    return x * 1.0, lambda dy: (dy * 1.01,)


def eps(x):
    """Stands for the mistake of another eps."""


def test_a_wrong_backward_is_placed_after_the_last_right_gradient(batch):
    report = compare(Wrong(wrong_backward), pair()[1], batch)
    assert [row.name for row in report.failures] == [*BACKWARD[6:]]
    lines = str(report).splitlines()
    assert "FAILED" in lines[0]
    assert lines[1].startswith("  gradient of 0.bias: relative error 1.00e-02; worst at [")
    assert " by tinylm, " in lines[1]


def test_a_wrong_forward_comes_first(batch):
    report = compare(Wrong(eps), pair()[1], batch)
    assert [row.name for row in report.failures][:2] == ["output of 2", "output 0"]


def test_a_gradient_that_is_missing_counts_as_zero(batch):
    report = compare(Wrong(lambda x: x.detach()), pair()[1], batch)
    assert [row.name for row in report.failures] == [*BACKWARD[6:]]
    assert report.failures[0].error == 1


def test_names_and_shapes_that_differ_are_all_listed(batch):
    ours = nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5), nn.Linear(5, 3))
    theirs = tnn.Sequential(tnn.Linear(3, 5, bias=False), tnn.LayerNorm(5), tnn.Linear(5, 2), tnn.Linear(2, 1))
    report = compare(ours, theirs, batch)
    assert not report.ok
    found = {row.name: row.detail for row in report.failures}
    assert found == {
        "0.bias": "only in tinylm, of shape (5,)",
        "3.weight": "only in PyTorch, of shape (1, 2)",
        "3.bias": "only in PyTorch, of shape (1,)",
        "2.weight": "shape (3, 5) in tinylm, (2, 5) in PyTorch",
        "2.bias": "shape (3,) in tinylm, (2,) in PyTorch",
    }
    assert "nothing was run" in str(report)


def test_outputs_of_other_shapes_are_listed(batch):
    class Transposed(tnn.Linear):
        def forward(self, x):
            return super().forward(x).T, x

    report = compare(nn.Linear(3, 2), Transposed(3, 2), batch)
    assert {row.name: row.detail for row in report.failures} == {
        "output 0": "shape (4, 2) in tinylm, (2, 4) in PyTorch",
        "output 1": "only in PyTorch, of shape (4, 3)",
    }


def test_an_unknown_precision(batch):
    with pytest.raises(ConfigError, match="dtype 'float16'"):
        compare(*pair(), batch, dtype="float16")


# ---------------------------------------------------------------- the layer that is wrong


class Deep(nn.Module):
    """6 blocks of two layers, of which one may be wrong in its forward or backward pass."""

    def __init__(self, fault=None, at=None):
        super().__init__()
        self.blocks = nn.ModuleList(Block(fault if i == at else None) for i in range(6))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


class Block(nn.Module):
    def __init__(self, fault):
        super().__init__()
        self.norm, self.linear, self.fault = nn.LayerNorm(4), nn.Linear(4, 4), fault

    def forward(self, x):
        y = self.linear(self.norm(x))
        return x + tinylm.tanh(y if self.fault is None else self.fault(y))


class TorchBlock(tnn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.linear = tnn.LayerNorm(4), tnn.Linear(4, 4)

    def forward(self, x):
        return x + torch.tanh(self.linear(self.norm(x)))


class TorchDeep(tnn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = tnn.ModuleList(TorchBlock() for _ in range(6))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("at", range(6))
def test_a_planted_error_in_one_of_six_layers_is_the_first_to_be_reported(at, dtype):
    torch.manual_seed(0)
    x = [np.random.default_rng(0).standard_normal((3, 4))]
    theirs = TorchDeep()
    assert compare(Deep(), theirs, x, dtype=dtype).ok
    forward = compare(Deep(lambda y: y * 1.001, at), theirs, x, dtype=dtype)
    assert forward.failures[0].name == f"output of blocks.{at}"
    assert str(forward).splitlines()[1].startswith(f"  output of blocks.{at}: relative error")
    backward = compare(Deep(wrong_backward, at), theirs, x, dtype=dtype)
    assert backward.failures[0].name == f"gradient of blocks.{at}.linear.bias"
    assert "output" not in "".join(row.name for row in backward.failures)


def test_a_layer_whose_backward_is_wrong_only_towards_its_input(batch):
    """Its own parameters get the right gradients: the gradient through it is the first that is wrong."""

    class InFront(nn.Linear):
        def forward(self, x):
            return super().forward(wrong_backward(x))

    ours, theirs = pair()
    setattr(ours, "2", InFront(5, 2))
    assert compare(ours, theirs, batch).failures[0].name == "gradient through 2"


def test_the_models_are_as_before():
    ours, theirs = pair()

    def watched():
        hooks = any(module._forward_hooks or module._forward_pre_hooks for module in theirs.modules())
        return any("forward" in vars(module) for module in ours.modules()), hooks

    with recorded(ours), recorded_in_torch(theirs):
        assert watched() == (True, True)
    assert watched() == (False, False)


def test_a_layer_called_twice_and_one_that_does_more_than_pytorchs(batch):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 3)

        def forward(self, x):
            return self.linear(self.linear(x, activation="relu"), x)

    class TorchTwice(tnn.Module):
        def __init__(self):
            super().__init__()
            self.linear = tnn.Linear(3, 3)

        def forward(self, x):
            return x + self.linear(torch.relu(self.linear(x)))

    report = compare(Twice(), TorchTwice(), batch)
    assert report.ok, report
    assert not any(row.name.startswith("output of") for row in report.rows)


# ---------------------------------------------------------------- arguments


def test_integer_and_named_arguments():
    ours, theirs = nn.Embedding(5, 3), tnn.Embedding(5, 3)
    ids = np.array([[0, 4], [4, 1]])
    assert compare(ours, theirs, [ids]).ok
    assert compare(nn.Linear(3, 2), tnn.Linear(3, 2), [np.ones((2, 3), np.float32)]).ok


def test_tied_weights():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.head = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, ids):
            return self.head(self.embedding(ids))

    class TorchTied(tnn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.head = tnn.Embedding(5, 3), tnn.Linear(3, 5, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, ids):
            return self.head(self.embedding(ids))

    report = compare(Tied(), TorchTied(), [np.array([0, 3, 3])])
    assert report.ok, report
    names = ["output of embedding", "output of head", "output 0", "gradient through head", "gradient of embedding.weight"]
    assert [row.name for row in report.rows] == names
