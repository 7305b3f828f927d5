"""Devices and their errors, the namespaces of arrays, and the few functions NumPy lacks."""

import numpy as np
import pytest
from scipy import special

import tinylm
from tinylm import Tensor
from tinylm.engine.array_functions import is_basic_index
from tinylm.engine.arrays import array_module, constant, raw_module, sum_like, sum_to
from tinylm.engine.devices import device_namespace, device_of, parse_device, to_device, to_numpy
from tinylm.engine.ids import check_ids
from tinylm.errors import DeviceError, RangeError, ShapeError

# ---------------------------------------------------------------- devices


@pytest.mark.parametrize(
    ("device", "expected"), [("cpu", ("cpu", 0)), ("cuda", ("cuda", 0)), ("cuda:0", ("cuda", 0)), ("cuda:12", ("cuda", 12))]
)
def test_device_names(device, expected):
    assert parse_device(device) == expected


@pytest.mark.parametrize("device", ["tpu", "cuda:x", "cuda:", "cuda:-1", "cpu:0", "", "CPU", "cuda:1:2"])
def test_unknown_devices(device):
    with pytest.raises(DeviceError, match=f"unknown device {device!r}: expected 'cpu', 'cuda' or 'cuda:N'"):
        device_namespace(device)
    with pytest.raises(DeviceError, match="unknown device"):
        tinylm.nn.Linear(2, 2).to(device)


def test_to_the_device_it_is_on():
    a = np.ones(2)
    assert to_device(a, "cpu") is a
    assert to_numpy(a) is a
    assert device_of(a) == "cpu"
    assert device_of(np.float32(1)) == "cpu"


# ---------------------------------------------------------------- namespaces


def test_array_module():
    numpy = array_module(np.ones(1))
    assert numpy.exp is np.exp
    assert array_module() is array_module(None, 1.0) is numpy
    assert array_module(Tensor(1.0)) is array_module(np.ones(1), tinylm.nn.Parameter(np.ones(1))) is tinylm.ops
    assert raw_module(Tensor(1.0)) is numpy
    assert array_module(np.ones(1).view(type("Sub", (np.ndarray,), {}))) is numpy
    np.testing.assert_array_equal(numpy.erf(0.5), special.erf(0.5))
    np.testing.assert_array_equal(numpy.sigmoid(0.5), special.expit(0.5))
    with pytest.raises(AttributeError, match="no_such_function"):
        numpy.no_such_function  # noqa: B018


def test_constant():
    a = np.ones(2)
    assert constant(a) is a
    assert constant(Tensor(a)) is a
    assert constant(2.0) == 2.0


# ---------------------------------------------------------------- functions


@pytest.mark.parametrize(
    ("shape", "target"),
    [
        ((2, 3), (2, 3)),
        ((2, 3), (3,)),
        ((2, 3), (1, 3)),
        ((2, 3), (2, 1)),
        ((2, 3), ()),
        ((4, 2, 3), (2, 1)),
        ((0, 3), (3,)),
        ((0, 3), (1, 1)),
    ],
)
def test_sum_to_is_the_adjoint_of_broadcasting(shape, target):
    """⟨broadcast(x), y⟩ = ⟨x, sum_to(y)⟩."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal(target), rng.standard_normal(shape)
    summed = sum_to(y, target)
    assert summed.shape == target
    np.testing.assert_allclose((np.broadcast_to(x, shape) * y).sum(), (x * summed).sum())
    assert sum_like(y, 2.0) is None
    np.testing.assert_array_equal(sum_like(y, x), summed)


@pytest.mark.parametrize(
    ("key", "basic"),
    [
        *((key, True) for key in [1, slice(None), ..., None, (0, slice(2), None, ...), np.int64(1)]),
        *((key, False) for key in [True, np.True_, np.array([1]), (0, np.array([1])), [1]]),
    ],
)
def test_basic_indices(key, basic):
    assert is_basic_index(key) is basic


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scatter_add_repeats_add_up_the_same_each_time(dtype):
    rng = np.random.default_rng(0)
    ids, values = rng.integers(0, 7, (50, 4)), rng.standard_normal((50, 4, 3)).astype(dtype)
    scatter_add = array_module(values).scatter_add
    result = scatter_add(values, ids, (9, 3))
    expected = np.zeros((9, 3))
    np.add.at(expected, ids, values.astype(np.float64))
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)
    assert result.dtype == dtype
    assert result.tobytes() == scatter_add(values.copy(), ids.copy(), (9, 3)).tobytes()


def test_check_ids():
    check_ids(np.array([0, 4]), 5, "id")
    check_ids(np.array([], np.int64), 0, "id")
    for bad, message in [(5, "id 5 is out of range: expected 0 to 4"), (-1, "id -1 is out of range")]:
        with pytest.raises(RangeError, match=message):
            check_ids(np.array([0, bad]), 5, "id")
    with pytest.raises(ShapeError, match="id must be an array of integers, got float64"):
        check_ids(np.array([1.0]), 5, "id")
