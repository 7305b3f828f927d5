"""Devices and their errors, the namespaces of arrays, and the few functions NumPy lacks."""

import numpy as np
import pytest
from scipy import special

import tinylm
from tinylm import Tensor
from tinylm.engine.array_functions import Namespace, is_basic_index
from tinylm.engine.arrays import all_promoted, array_module, constant, is_number, of_one_dtype, promoted, raw_module, sum_like, sum_to
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


def test_a_subclass_of_a_tensor_counts_as_one_before_any_array():
    kind, sub = type("Kind", (Tensor,), {}), np.ones(1).view(type("Sub", (np.ndarray,), {}))
    for _ in range(2):
        assert array_module(kind(np.ones(1)), sub) is array_module(sub, kind(np.ones(1))) is tinylm.ops
    assert array_module(sub, 1.0).exp is np.exp
    assert raw_module(kind(np.ones(1))) is array_module(np.ones(1))


def test_a_name_of_a_namespace_is_looked_up_once():
    space = Namespace(np, "scipy.special")
    for name, expected in (("erf", special.erf), ("erfc", special.erfc), ("sigmoid", special.expit), ("cosh", np.cosh)):
        assert name not in vars(space)
        assert getattr(space, name) is expected
        assert vars(space)[name] is expected


def dtypes(arrays):
    return [getattr(a, "dtype", None) for a in arrays]


F4, F8, I8 = np.ones(1, np.float32), np.ones(1), np.ones(1, np.int64)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((F4, I8), ["float32", "float32"]),
        ((I8, F4), ["float32", "float32"]),
        ((F4, I8 > 0), ["float32", "float32"]),
        ((F4, F8), ["float32", "float64"]),
        ((F4, 2), ["float32", None]),
        ((None, F4), [None, "float32"]),
        ((I8, I8 > 0), ["int64", "bool"]),
    ],
)
def test_integers_beside_a_floating_array_get_its_dtype(given, expected):
    found = promoted(*given)
    assert dtypes(found) == expected
    assert all(a is b for a, b in zip(found, given, strict=True) if getattr(b, "dtype", F8.dtype).kind == "f" or None in expected)


def test_the_members_of_a_sequence_get_one_dtype():
    assert dtypes(all_promoted([F4, I8, 2, True])) == ["float32"] * 4
    assert dtypes(all_promoted([I8, F4, F8])) == ["float64", "float32", "float64"]
    assert dtypes(all_promoted([I8, 2])) == ["int64", None]
    assert all_promoted(()) == []
    tensor, ids = all_promoted([Tensor(F4), I8])
    assert (type(tensor), type(ids)) == (Tensor, np.ndarray)
    assert dtypes(of_one_dtype("op", x=I8, y=None, z=F4, k=2)) == ["float32", None, "float32", None]
    assert dtypes(of_one_dtype("op", x=I8, y=2)) == ["int64", None]
    half = F4.astype(np.float16)
    assert dtypes(of_one_dtype("op", x=half, y=F4, z=I8)) == ["float16", "float32", "float16"]
    for x, y in ((F4, F8), (F8, half)):
        with pytest.raises(ShapeError, match=f"^op: x is {x.dtype}, z is {y.dtype}: expected one dtype; convert one with .astype"):
            of_one_dtype("op", x=x, y=I8, z=y)


def test_numbers():
    assert [is_number(x) for x in (1, 1.0, True, None, F8, Tensor(1.0))] == [True, True, True, False, False, False]
    assert [sum_like(F8, x) for x in (1, 1.0)] == [None, None]
    assert sum_like(F8, F4) is F8


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        (np.array([2, 0, 2, 2]), (3, 2)),
        (np.array([-1, 0, 2, -3]), (3, 2)),  # from the end
        (np.array([[1, 1], [0, 1]], np.uint8), (3, 2)),
        (np.array([1, 1, 0]), (2,)),
        (np.array([True, False, True]), (3, 2)),
        ((np.array([0, 0, 1]), np.array([1, 1, 0])), (2, 2)),
        ((slice(None), np.array([0, 0])), (3, 2)),
        ((np.array([0, 0]), 1), (3, 2)),
        ([0, 0, 2], (3, 2)),
        (slice(1, None), (3, 2)),
        (1, (3, 2)),
        ((..., 0), (3, 2)),
        (np.array([], np.int64), (3, 2)),
        ((np.array([], np.int64), np.array([], np.int64)), (3, 2)),
        (np.array(2), (3, 2)),
    ],
)
def test_scatter_add_is_the_adjoint_of_indexing(key, shape):
    values = np.random.default_rng(0).standard_normal(np.zeros(shape)[key].shape)
    expected = np.zeros(shape)
    np.add.at(expected, key, values)
    found = array_module(values).scatter_add(values, key, shape)
    np.testing.assert_allclose(found, expected, atol=1e-15)
    assert found.shape == shape
    start = np.ones(shape)
    distinct = np.unique(key) if isinstance(key, np.ndarray) and key.dtype.kind != "b" else None
    if distinct is not None and distinct.size == key.size and (key >= 0).all():
        added = array_module(start).index_add(start, values, key)
        assert added is start
        np.testing.assert_allclose(added, 1 + expected)


def test_check_ids():
    check_ids(np.array([0, 4]), 5, "id")
    check_ids(np.array([], np.int64), 0, "id")
    for bad, message in [(5, "id 5 is out of range: expected 0 to 4"), (-1, "id -1 is out of range")]:
        with pytest.raises(RangeError, match=message):
            check_ids(np.array([0, bad]), 5, "id")
    with pytest.raises(ShapeError, match="id must be an array of integers, got float64"):
        check_ids(np.array([1.0]), 5, "id")
