"""compare holds a model against PyTorch: it passes equal ones and names the first that differs."""

import numpy as np
import pytest
import torch
from torch import nn as tnn

import tinylm
from tinylm import nn, ops
from tinylm.errors import CheckpointError, ShapeError
from tinylm.verify import Sample, compare, compare_op
from tinylm.verify.models import MODELS, twins_of


@pytest.fixture
def batch():
    return [np.random.default_rng(0).standard_normal((4, 3))]


def pair():
    """The same small model twice, with weights of its own each."""
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5), nn.Linear(5, 2))
    return ours, tnn.Sequential(tnn.Linear(3, 5), tnn.LayerNorm(5), tnn.Linear(5, 2))


@pytest.mark.parametrize("name", MODELS)
def test_the_registered_models(name):
    report = compare(*twins_of(name))
    assert report.ok, report


def test_equal_models_pass_and_every_parameter_has_its_row(batch):
    ours, theirs = pair()
    report = compare(ours, theirs, batch)
    assert report.ok
    assert [row.name for row in report.rows] == [
        "output 0",
        *(f"gradient of {name}" for name in ("2.bias", "2.weight", "1.bias", "1.weight", "0.bias", "0.weight")),
        "gradient of argument 0",
    ]
    assert str(report).startswith("Sequential against PyTorch: ok")


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
    """As pair()'s model, but with a forward or backward pass that is off in one place."""

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
    """Marks the fault of another eps."""


def test_a_wrong_backward_is_placed_behind_the_last_right_gradient(batch):
    report = compare(Wrong(wrong_backward), pair()[1], batch)
    assert [row.name for row in report.failures] == ["gradient of 0.bias", "gradient of 0.weight", "gradient of argument 0"]
    lines = str(report).splitlines()
    assert "FAILED" in lines[0]
    assert lines[1].startswith("  gradient of 0.bias: relative error 1.00e-02; worst at [")
    assert " by tinylm, " in lines[1]


def test_a_wrong_forward_comes_first(batch):
    report = compare(Wrong(eps), pair()[1], batch)
    assert report.failures[0].name == "output 0"


def test_a_gradient_that_is_missing_counts_as_zero(batch):
    report = compare(Wrong(lambda x: x.detach()), pair()[1], batch)
    assert [row.name for row in report.failures] == ["gradient of 0.bias", "gradient of 0.weight", "gradient of argument 0"]
    assert report.failures[0].error == 1


def test_a_state_that_does_not_fit(batch):
    with pytest.raises(CheckpointError, match=r"missing '0.weight'"):
        compare(pair()[0], tnn.Linear(3, 2), batch)


def test_outputs_of_other_shapes(batch):
    class Transposed(tnn.Linear):
        def forward(self, x):
            return super().forward(x).T

    with pytest.raises(ShapeError, match=r"the outputs have shapes \[\(4, 2\)\], PyTorch's \[\(2, 4\)\]"):
        compare(nn.Linear(3, 2), Transposed(3, 2), batch)


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
    assert [row.name for row in report.rows] == ["output 0", "gradient of embedding.weight"]


def test_compare_op_sees_wrong_values_gradients_and_second_gradients(monkeypatch):
    sample = Sample("x", (np.array([0.5, -1.0]),), {})
    exp = ops.exp

    def spoilt(value, first, second):
        @tinylm.op
        def wrong(x, /):
            xp = tinylm.backend.array_module(x)
            y = xp.exp(x) if isinstance(x, np.ndarray) else exp(x)

            def vjp(dy):
                slope = y if second == 1 else tinylm.backend.constant(y)
                return (dy * slope * first,)

            return y * value, vjp

        monkeypatch.setattr(ops, "exp", wrong)
        return [[row.name for row in compare_op("exp", sample, order=order).failures] for order in (1, 2)]

    assert spoilt(1, 1, 1) == [[], []]
    assert spoilt(2, 1, 1)[0] == ["output 0"]
    assert spoilt(1, 2, 1)[0] == ["gradient of argument 0"]
    assert spoilt(1, 1, 0) == [[], ["second gradient of argument 0"]]


def test_a_nan_is_a_failure():
    report = compare_op("log", Sample("x", (np.array([1.0, np.nan]),), {}))
    assert not report.ok
    assert np.isnan(report.error)
