"""Tensor: what it may hold, its methods, and that it computes as NumPy does."""

import copy
import inspect
import operator
import pickle

import numpy as np
import pytest

import tinylm
from tinylm import Tensor
from tinylm.errors import AutogradError, ShapeError


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((2, 3))


# ---------------------------------------------------------------- making one


@pytest.mark.parametrize(
    ("value", "dtype", "shape"),
    [
        (1.5, "float32", ()),
        (3, "int64", ()),
        (True, "bool", ()),
        ([1.0, 2.0], "float32", (2,)),
        ([[1, 2], [3, 4]], "int64", (2, 2)),
        ([], "float32", (0,)),
        (np.ones(2), "float64", (2,)),
        (np.ones(2, np.float16), "float16", (2,)),
        (np.float64(2), "float64", ()),
        (np.arange(3, dtype=np.int32), "int32", (3,)),
    ],
)
def test_what_it_may_hold(value, dtype, shape):
    t = Tensor(value)
    assert t.dtype == dtype
    assert t.shape == shape
    assert t.ndim == len(shape)
    assert t.size == np.prod(shape)
    assert t.device == "cpu"
    assert t.version == 0
    assert not t.requires_grad
    assert t.grad is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("text", "a tensor holds numbers, got str"),
        (None, "a tensor holds numbers, got NoneType"),
        (np.array([1j]), "got ndarray of dtype complex128"),
        ([[1, 2], [3]], "cannot make an array of list"),
        ({"a": 1}, "a tensor holds numbers, got dict"),
    ],
)
def test_what_it_may_not_hold(value, message):
    with pytest.raises(ShapeError, match=message):
        Tensor(value)


def test_arrays_are_shared_and_lists_copied(x):
    t = Tensor(x)
    assert t.data is x
    assert Tensor(t).data is x
    assert t.numpy() is x
    assert t.detach().data is x


def test_only_floats_can_require_gradients():
    for value in (np.arange(3), np.ones(3, bool)):
        with pytest.raises(ShapeError, match="only floating tensors can require gradients"):
            Tensor(value, requires_grad=True)


# ---------------------------------------------------------------- arithmetic is NumPy's

BINARY = [operator.add, operator.sub, operator.mul, operator.truediv]
COMPARISONS = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]


@pytest.mark.parametrize("op", [*BINARY, *COMPARISONS], ids=lambda op: op.__name__)
@pytest.mark.parametrize(
    "other", [2, 0.5, np.array([1.0, -2.0, 3.0]), np.float32(2), "tensor"], ids=["int", "float", "array", "scalar", "tensor"]
)
def test_operators(op, other, x):
    t = Tensor(x)
    right = Tensor(x[::-1]) if isinstance(other, str) else other
    plain = x[::-1] if isinstance(other, str) else other
    for result, expected in [(op(t, right), op(x, plain)), (op(right, t), op(plain, x))]:
        assert isinstance(result, Tensor)
        np.testing.assert_array_equal(result.data, expected)
        assert result.dtype == np.asarray(expected).dtype


def test_matmul_power_negative_abs(x):
    t = Tensor(x)
    np.testing.assert_array_equal((t @ x.T).data, x @ x.T)
    np.testing.assert_array_equal((x.T @ t).data, x.T @ x)
    np.testing.assert_array_equal((t**2).data, x**2)
    np.testing.assert_array_equal((2**t).data, 2**x)
    np.testing.assert_array_equal((-t).data, -x)
    np.testing.assert_array_equal(abs(t).data, abs(x))


@pytest.mark.parametrize("scalar", [2, 2.5, np.float64(2.5), np.float32(2.5), np.int64(2)])
def test_scalars_do_not_promote_float32(scalar):
    t = Tensor(np.ones(3, np.float32))
    for result in (t * scalar, scalar * t, t + scalar, t / scalar, tinylm.maximum(t, scalar), t**scalar):
        assert result.dtype == np.float32


def test_augmented_assignment_makes_a_new_tensor(x):
    leaf = Tensor(x.copy(), requires_grad=True)
    t = first = leaf * 1
    t += 1
    t *= 2
    assert t is not first
    np.testing.assert_array_equal(first.data, x)
    t.backward(np.ones((2, 3)))
    np.testing.assert_array_equal(leaf.grad, 2)


@pytest.mark.parametrize(
    ("tensors", "arrays"),
    [
        (lambda t: t.sum(), lambda a: a.sum()),
        (lambda t: t.sum(axis=0, keepdims=True), lambda a: a.sum(axis=0, keepdims=True)),
        (lambda t: t.mean(-1), lambda a: a.mean(-1)),
        (lambda t: t.max(1), lambda a: a.max(1)),
        (lambda t: t.min(), lambda a: a.min()),
        (lambda t: t.var(0), lambda a: a.var(0)),
        (lambda t: t.argmax(1), lambda a: a.argmax(1)),
        (lambda t: t.clip(-0.1, 0.2), lambda a: a.clip(-0.1, 0.2)),
        (lambda t: t.reshape(3, 2), lambda a: a.reshape(3, 2)),
        (lambda t: t.reshape((3, -1)), lambda a: a.reshape((3, -1))),
        (lambda t: t.reshape(-1), lambda a: a.reshape(-1)),
        (lambda t: t.T, lambda a: a.T),
        (lambda t: t.transpose(), lambda a: a.transpose()),
        (lambda t: t.transpose(1, 0), lambda a: a.transpose(1, 0)),
        (lambda t: t.transpose((1, 0)), lambda a: a.transpose((1, 0))),
        (lambda t: t.swapaxes(0, -1), lambda a: a.swapaxes(0, -1)),
        (lambda t: t.astype("float32"), lambda a: a.astype("float32")),
        (lambda t: t[None].squeeze(0), lambda a: a),
        (lambda t: t.expand_dims(1), lambda a: a[:, None]),
        (lambda t: t.split(2)[1], lambda a: a[1:]),
        (lambda t: t.exp().log().sqrt().tanh(), lambda a: np.tanh(np.sqrt(np.log(np.exp(a))))),
    ],
)
def test_methods_have_numpys_names_and_results(tensors, arrays):
    x = np.abs(np.random.default_rng(0).standard_normal((2, 3)))
    result = tensors(Tensor(x))
    assert isinstance(result, Tensor)
    np.testing.assert_array_equal(result.data, arrays(x))
    assert result.dtype == np.asarray(arrays(x)).dtype


# ---------------------------------------------------------------- indexing and writing


def test_indexing_by_lists_arrays_and_tensors(x):
    t, rows = Tensor(x), [1, 0, 1]
    for key in (rows, np.array(rows), Tensor(np.array(rows))):
        np.testing.assert_array_equal(t[key].data, x[rows])
    np.testing.assert_array_equal(t[Tensor(x) > 0].data, x[x > 0])
    np.testing.assert_array_equal(t[:, Tensor(np.array([2, 0]))].data, x[:, [2, 0]])
    assert t[[]].shape == (0, 3)
    with pytest.raises(IndexError, match="index 5 is out of bounds"):
        t[5]


def test_iterating_and_unpacking(x):
    first, second = Tensor(x)
    np.testing.assert_array_equal(second.data, x[1])
    assert [row.shape for row in Tensor(x)] == [(3,), (3,)]
    assert list(Tensor(x[:0])) == []
    rows, start = list(Tensor(x, requires_grad=True)), inspect.currentframe().f_lineno
    assert rows[1].node.where() == f"{__file__}:{start}"
    for unpack in (iter, list, lambda t: [*t], tinylm.stack):
        with pytest.raises(TypeError, match="iteration over a 0-d tensor"):
            unpack(Tensor(1.5))
    assert len(first) == 3
    with pytest.raises(TypeError, match="0-d tensor"):
        len(Tensor(1.0))


def test_writing_bumps_the_version_of_everything_that_shares_the_memory(x):
    t = Tensor(x.copy())
    view, copied = t[0], t[[0]]
    t[0, 0] = 5.0
    t[1] = Tensor(np.zeros(3))
    np.testing.assert_array_equal(t.data[:, 0], [5, 0])
    assert t.version == view.version > 0
    assert copied.version == 0


# ---------------------------------------------------------------- leaving


def test_item_and_conversions():
    assert Tensor(2.5).item() == 2.5
    assert isinstance(Tensor([[2.5]]).item(), float)
    assert float(Tensor(2.5)) == 2.5
    assert int(Tensor(np.array(3))) == 3
    assert bool(Tensor(np.array([0.0]))) is False
    with pytest.raises(ShapeError, match=r"one element, this one has shape \(2,\)"):
        Tensor([1.0, 2.0]).item()
    with pytest.raises(ValueError, match="ambiguous"):
        bool(Tensor([1.0, 2.0]))


def test_numpy_functions_get_the_values_but_never_lose_a_gradient(x):
    np.testing.assert_array_equal(np.asarray(Tensor(x)), x)
    assert np.asarray(Tensor(x), dtype=np.float32).dtype == np.float32
    assert np.concatenate([Tensor(x), x]).shape == (4, 3)
    with pytest.raises(AutogradError, match=r"would lose the gradient of this tensor \(shape \(2, 3\)\)"):
        np.asarray(Tensor(x, requires_grad=True))
    with tinylm.no_grad():
        np.testing.assert_array_equal(np.asarray(Tensor(x, requires_grad=True)), x)
    with pytest.raises(TypeError, match="does not support ufuncs"):
        np.exp(Tensor(x))


def test_to(x):
    t = Tensor(x, requires_grad=True)
    assert t.to("cpu") is t
    assert t.to(dtype="float64") is t
    half = t.to(dtype="float32")
    assert half.dtype == np.float32
    half.backward(np.ones((2, 3), np.float32))
    np.testing.assert_array_equal(t.grad, 1)
    assert t.grad.dtype == np.float64


def test_repr():
    assert repr(Tensor([1.0, 2.0])) == "Tensor([1., 2.], dtype=float32)"
    assert repr(Tensor([[1], [2]])) == "Tensor([[1],\n        [2]], dtype=int64)"
    assert repr(Tensor(1.0, requires_grad=True)) == "Tensor(1., dtype=float32, requires_grad=True)"


def test_tensors_are_keys_by_identity(x):
    a, b = Tensor(x), Tensor(x)
    assert len({a: 1, b: 2}) == 2
    assert {a: 1}[a] == 1


def test_copies(x):
    t = Tensor(x, requires_grad=True)
    for other in (copy.deepcopy(t), pickle.loads(pickle.dumps(t))):
        np.testing.assert_array_equal(other.data, x)
        assert other.requires_grad
        assert not np.shares_memory(other.data, x)


def test_a_value_with_a_gradient_is_written_only_where_nothing_is_recorded():
    value, target = Tensor(np.ones(2), requires_grad=True), Tensor(np.zeros(3))
    with pytest.raises(AutogradError, match="it would be lost; use where or concatenate"):
        target[:2] = value
    assert target.numpy().tolist() == [0, 0, 0]
    with tinylm.no_grad():
        target[:2] = value
        value[0] = 5
    assert (target.numpy().tolist(), value.numpy().tolist()) == ([1, 1, 0], [5, 1])
