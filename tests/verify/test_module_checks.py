"""Whole modules compared with finite differences, by the names of their parameters."""

import numpy as np
import pytest
from broken_gradients import BROKEN

from tinylm import nn
from tinylm.verify.models import MODELS, model_of
from tinylm.verify.module_checks import check_module


class Wrong(nn.Module):
    """A model with a broken op in the middle."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.last(BROKEN["square_without_its_two"].op(self.first(x)))


def test_a_right_module_passes_and_is_left_alone():
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    before = model.state_dict()
    report = check_module(model, [np.ones((2, 3), np.float32)], order=1)
    assert report.ok, report
    assert [row.name for row in report.rows] == ["0.weight", "0.bias", "1.weight", "1.bias", "x (argument 0)"]
    for name, array in model.state_dict().items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, before[name])


def test_a_wrong_op_inside_is_named():
    report = check_module(Wrong(), [np.random.default_rng(0).standard_normal((2, 3))])
    assert [row.name for row in report.failures] == ["first.weight", "first.bias", "x (argument 0)"]
    assert "the op square_without_its_two (" in report.failures[0].cause
    assert "test_module_checks.py:" in report.failures[0].cause


def test_named_and_nested_arguments():
    class Pair(nn.Module):
        def forward(self, states, scale):
            return {"sum": (states[0] + states[1]) * scale, "ids": None}

    report = check_module(Pair(), {"states": (np.ones(2), np.ones(2)), "scale": np.array([2.0, 3.0])})
    assert [row.name for row in report.rows] == ["argument states[0]", "argument states[1]", "argument scale"]
    assert report.ok


@pytest.mark.parametrize("name", ["multihead_attention", "gru", "gpt"])
def test_registered_models(name):
    assert check_module(*model_of(name)).ok


def test_registered_models_are_the_same_each_time():
    for name in MODELS:
        (first, _), (second, _) = model_of(name), model_of(name)
        for a, b in zip(first.parameters(), second.parameters(), strict=True):
            np.testing.assert_array_equal(a.data, b.data)
            assert np.count_nonzero(a.data) == a.size
