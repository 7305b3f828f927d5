"""Training both models: equal ones drift apart only by rounding, a wrong gradient makes them diverge."""

import numpy as np
import pytest
import torch

import tinylm
from tinylm import nn
from tinylm.verify import drift


@tinylm.op
def wrong_backward(x, /):
    return x * 1.0, lambda dy: (dy * np.array([1.0, 1.0, 1.01, 1.0], x.dtype),)


class Model(nn.Module):
    def __init__(self, fault=None):
        super().__init__()
        self.first, self.last, self.fault = nn.Linear(3, 4), nn.Linear(4, 2), fault

    def forward(self, x):
        h = tinylm.tanh(self.first(x))
        return self.last(h if self.fault is None else self.fault(h))


class TorchModel(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)

    def forward(self, x):
        return self.last(torch.tanh(self.first(x)))


@pytest.fixture
def theirs():
    torch.manual_seed(0)
    return TorchModel()


BATCH = [np.random.default_rng(0).standard_normal((5, 3))]


@pytest.mark.parametrize(("dtype", "most"), [("float64", 1e-11), ("float32", 1e-3)])
def test_equal_models_stay_together(theirs, dtype, most):
    before = {name: p.detach().clone() for name, p in theirs.named_parameters()}
    found = drift(Model(), theirs, BATCH, 30, dtype=dtype)
    assert len(found.losses) == len(found.torch_losses) == len(found.distances) == len(found.control) == 30
    np.testing.assert_allclose(found.losses, found.torch_losses, rtol=most)
    assert found.losses[-1] < found.losses[0]  # it trains
    assert 0 < found.control[-1] < most
    assert found.distances[-1] < most
    assert found.report().ok, found.report()
    for name, p in theirs.named_parameters():
        assert torch.equal(p, before[name])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_wrong_gradient_drifts_away(theirs, dtype):
    report = drift(Model(wrong_backward), theirs, BATCH, 30, dtype=dtype).report()
    assert not report.ok
    assert "after 30 steps, of which rounding alone would make" in report.failures[0].detail
