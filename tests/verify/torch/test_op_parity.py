"""compare_op compares an op with its PyTorch reference."""

import numpy as np
import pytest

import tinylm
from tinylm import ops
from tinylm.engine import arrays
from tinylm.errors import ShapeError
from tinylm.verify import Sample, compare_op, samples_of


def test_compare_op_sees_wrong_values_gradients_and_second_gradients(monkeypatch):
    sample = Sample("x", (np.array([0.5, -1.0]),), {})
    exp = ops.exp

    def spoilt(value, first, second):
        @tinylm.op
        def wrong(x, /):
            xp = arrays.array_module(x)
            y = xp.exp(x) if isinstance(x, np.ndarray) else exp(x)

            def vjp(dy):
                slope = y if second == 1 else arrays.constant(y)
                return (dy * slope * first,)

            return y * value, vjp

        monkeypatch.setattr(ops, "exp", wrong)
        return [[row.name for row in compare_op("exp", sample, order=order).failures] for order in (1, 2)]

    assert spoilt(1, 1, 1) == [[], []]
    assert spoilt(2, 1, 1)[0] == ["output 0"]
    assert spoilt(1, 2, 1)[0] == ["gradient of x (argument 0)"]
    assert spoilt(1, 1, 0) == [[], ["second gradient of x (argument 0)"]]


def test_a_nan_is_a_failure():
    report = compare_op("log", Sample("x", (np.array([1.0, np.nan]),), {}))
    assert not report.ok
    assert np.isnan(report.error)


@pytest.mark.parametrize("name", ["linear", "softmax", "lstm", "scaled_dot_product_attention", "dropout"])
def test_single_precision(name):
    for sample in samples_of(name):
        report = compare_op(name, sample, dtype="float32")
        assert report.ok, report
        assert report.title.endswith("(float32)")
    assert compare_op(name, samples_of(name)[0]).error < 1e-12


def test_outputs_of_other_shapes(monkeypatch):
    monkeypatch.setattr(ops, "exp", lambda x: ops.reshape(x, (-1,)))
    with pytest.raises(ShapeError, match=r"the outputs have shapes \[\(6,\)\], PyTorch's \[\(2, 3\)\]"):
        compare_op("exp", Sample("x", (np.ones((2, 3)),), {}))


@pytest.mark.parametrize("name", ["sum", "mean", "var"])
def test_reductions_without_elements(name):
    for settings in ({"axis": 1}, {"axis": (1, 2), "keepdims": True}):
        report = compare_op(name, Sample("none", (np.zeros((0, 3, 2)),), settings))
        assert report.ok, report
        assert len(report.rows) == 2


def test_members_of_a_sequence_are_named_with_their_places():
    report = compare_op("concatenate", Sample("x", ([np.ones((2, 3)), np.zeros((1, 3))],), {}))
    assert [row.name for row in report.rows][1:] == ["gradient of arrays[0] (argument 0)", "gradient of arrays[1] (argument 0)"]
