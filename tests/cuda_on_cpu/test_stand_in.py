"""The stand-in for CuPy: what equals NumPy, what is refused, and where the host would wait."""

import sys
import types

import numpy as np
import pytest
from scipy import special

from tinylm import Tensor
from tinylm.engine import arrays
from tinylm.errors import DeviceError

from . import emulator
from .stand_in import DeviceSynchronized, cupyx, installed, ndarray
from .stand_in import cupy as cp

f4 = np.float32
A = np.arange(6, dtype=f4).reshape(2, 3)
HOST = np.ones((2, 3), f4)

# ---------------------------------------------------------------- the same as NumPy

SAME = {
    "function": lambda xp, a: xp.exp(a),
    "through NumPy's name": lambda xp, a: np.sum(np.exp(a), axis=1),
    "matmul": lambda xp, a: a @ a.T,
    "out": lambda xp, a: xp.matmul(a, a.T, out=xp.empty((2, 2), f4)),
    "einsum": lambda xp, a: xp.einsum("ij,kj->ik", a, a),
    "slice": lambda xp, a: a[:, ::2],
    "new axis": lambda xp, a: a[:, None] * a[None],
    "integers as index": lambda xp, a: a[xp.arange(2), xp.asarray([2, 0])],
    "take": lambda xp, a: xp.take(a, xp.asarray([0, 2]), axis=1),
    "take along": lambda xp, a: xp.take_along_axis(a, xp.asarray([[0], [2]]), axis=1),
    "method": lambda xp, a: a.mean(-1, keepdims=True),
    "reduction to 0-d": lambda xp, a: a.sum(),
    "tuple of axes": lambda xp, a: xp.sum(a, axis=(0, 1), keepdims=True),
    "float32 scalar": lambda xp, a: a * f4(2),
    "float32 scalar on the left": lambda xp, a: f4(2) * a,
    "Python number": lambda xp, a: 2.5 * a - 1,
    "a float64 scalar promotes": lambda xp, a: a * np.float64(2),
    "where": lambda xp, a: xp.where(a > 2, a, 0.0),
    "logic": lambda xp, a: (a > 1) & ~(a < 4),
    "negation": lambda xp, a: -a,
    "power": lambda xp, a: a**2 + 2**a,
    "concatenate": lambda xp, a: xp.concatenate([a, a], axis=0),
    "split": lambda xp, a: xp.split(a, 3, axis=1)[1],
    "pad": lambda xp, a: xp.pad(a, ((1, 0), (0, 2))),
    "transpose": lambda xp, a: a.transpose(1, 0).reshape(-1),
    "astype": lambda xp, a: a.astype(np.float64),
    "argmax": lambda xp, a: a.argmax(-1),
    "reduceat": lambda xp, a: xp.add.reduceat(a, xp.asarray([0, 1]), axis=0),
    "broadcast": lambda xp, a: xp.broadcast_to(a, (2, 2, 3)),
    "made of nothing": lambda xp, a: xp.zeros((2, 3), f4) + xp.ones_like(a) + xp.arange(3, dtype=f4) + xp.full(3, 2, f4),
}


@pytest.mark.parametrize("what", SAME)
def test_same_as_numpy(what):
    result, expected = SAME[what](cp, cp.asarray(A)), SAME[what](np, A)
    assert type(result) is ndarray
    assert result.dtype == expected.dtype
    assert result.shape == expected.shape
    np.testing.assert_array_equal(result.get(), expected)


def test_special_functions():
    for name in ("erf", "erfc", "expit"):
        result = getattr(cupyx.scipy.special, name)(cp.asarray(A))
        np.testing.assert_array_equal(result.get(), getattr(special, name)(A))


def test_writing_in_place():
    a = b = cp.asarray(A)
    a += 1
    assert b is a
    np.testing.assert_array_equal(a.get(), A + 1)
    a[0] = 0
    a[:, 1] = cp.asarray([7, 8], dtype=f4)
    a[a > 7] = -1
    np.testing.assert_array_equal(a.get(), [[0, 7, 0], [4, -1, 6]])
    np.testing.assert_array_equal(A[0], [0, 1, 2], err_msg="the host's array was written to")


def test_views_know_their_base():
    a = cp.zeros((2, 3), f4)
    assert a.base is None
    assert a[:, 1:].base is a
    assert a.T[1:].reshape(-1, 1).base in (a, None)
    assert cp.broadcast_to(a[0], (4, 3)).base is a
    assert (a + 1).base is None


def test_new_memory_is_poisoned():
    assert np.isnan(cp.empty((2, 3), f4).get()).all()
    assert np.isnan(cp.empty_like(cp.zeros(3)).get()).all()
    assert np.isnan(ndarray((2, 2)).get()).all()
    assert (cp.empty(3, np.int64).get() == -1).all()


# ---------------------------------------------------------------- what is refused

REFUSED = {
    "np.asarray(a)": lambda a: np.asarray(a),
    "np.array(a)": lambda a: np.array(a),
    "a + host": lambda a: a + HOST,
    "host + a": lambda a: HOST + a,
    "host *= a": lambda a: HOST.__imul__(a),
    "cupy.exp(host)": lambda a: cp.exp(HOST),
    "cupy.exp(3.0)": lambda a: cp.exp(3.0),
    "cupy.sum(host)": lambda a: cp.sum(HOST),
    "cupy.where(host mask)": lambda a: cp.where(HOST > 0, a, 0.0),
    "cupy.concatenate with host": lambda a: cp.concatenate([a, HOST]),
    "cupy.einsum with host": lambda a: cp.einsum("ij,ij->i", a, HOST),
    "a @ host": lambda a: a @ HOST.T,
    "a[host]": lambda a: a[np.array([0, 1])],
    "a[...] = host": lambda a: a.__setitem__(..., HOST),
    "np.copyto(host, a)": lambda a: np.copyto(HOST, a),
    "a list as operand": lambda a: cp.add(a, [1, 2, 3]),
    "where=": lambda a: cp.divide(a, a, where=a > 0),
    "sum(where=)": lambda a: cp.sum(a, where=a > 0),
    "a.sum(where=)": lambda a: a.sum(where=a > 0),
    "max(initial=)": lambda a: cp.max(a, initial=0),
    "maximum.reduce": lambda a: cp.maximum.reduce(a),
    "np.maximum.reduce": lambda a: np.maximum.reduce(a),
    "multiply.at": lambda a: cp.multiply.at(a, cp.asarray([0]), 2),
    "einsum(out=)": lambda a: cp.einsum("ij->i", a, out=a),
    "errstate": lambda a: cp.errstate(),
    "insert": lambda a: cp.insert(a, 0, 1),
    "take(mode=)": lambda a: cp.take(a, cp.asarray([0]), mode="raise"),
    "too many arguments": lambda a: a.astype(f4, "C", None, None, True, 7),
    "an argument twice": lambda a: cp.sum(a, 0, axis=0),
    "an argument missing": lambda a: cp.reshape(a),
    "a.itemset": lambda a: a.itemset(0, 1),
    "a.ctypes": lambda a: a.ctypes,
    "a.flags.writeable": lambda a: a.flags.writeable,
    "a.x = 1": lambda a: setattr(a, "x", 1),
    "a as index": lambda a: range(a[0, 0]),
    "vecdot": lambda a: cp.vecdot(a, a),
    "a function nobody has read": lambda a: cp.average(a, weights=a),
    "a size from the device": lambda a: cp.zeros((2, cp.asarray(3))),
    "a range from the device": lambda a: cp.arange(cp.asarray(3)),
    "repeats from the device": lambda a: cp.repeat(a, cp.asarray([1, 2]), axis=0),
    "sections from the device": lambda a: cp.split(a, cp.asarray([1]), axis=1),
    "a.reshape with a size from the device": lambda a: a.reshape(2, cp.asarray(3)),
    "cuda.nonsense": lambda a: cp.cuda.nonsense,
    "cupyx.nonsense": lambda a: cupyx.nonsense,
    "a second GPU": lambda a: cp.cuda.Device(1),
    "the same position written twice": lambda a: a.__setitem__(cp.asarray([1, 1]), 5),
    "an index out of range": lambda a: a[cp.asarray([7])],
    "writing to a broadcast": lambda a: cp.broadcast_to(a[0], (2, 3)).__setitem__(0, 1.0),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what):
    with pytest.raises((TypeError, AttributeError, NotImplementedError, IndexError, ValueError, RuntimeError)):
        REFUSED[what](cp.asarray(A))
    np.testing.assert_array_equal(HOST, 1)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (lambda a: a + HOST, "add: Unsupported type <class 'numpy.ndarray'>: a host array beside a device array"),
        (lambda a: cp.sum(HOST), "sum: Unsupported type <class 'numpy.ndarray'>: a host array in a device call"),
        (lambda a: cp.take(a, a, mode="wrap"), r"cupy.take: unknown argument 'mode' \(CuPy 14.2.0\)"),
        (lambda a: a.sum(1, axis=1), "cupy.ndarray.sum: argument 'axis' is given twice"),
        (lambda a: cp.insert, "cupy of CuPy 14.2.0 has no attribute 'insert'"),
        (lambda a: cp.cuda.Graph, "cupy.cuda.Graph exists in CuPy 14.2.0, but the stand-in does not have it yet"),
    ],
)
def test_messages(expression, message):
    with pytest.raises((TypeError, AttributeError), match=message):
        expression(cp.asarray(A))


# ---------------------------------------------------------------- the host waits

WAITING = {
    "float": lambda a: float(a.sum()),
    "int": lambda a: int(a[0, 0]),
    "bool": lambda a: bool((a > 0).all()),
    "if": lambda a: 1 if a.max() > 3 else 2,
    "item": lambda a: a[0, 0].item(),
    "tolist": lambda a: a.tolist(),
    "get": lambda a: a.get(),
    "asnumpy": lambda a: cp.asnumpy(a),
    "mask": lambda a: a[a > 0],
    "nonzero": lambda a: a.nonzero(),
    "flatnonzero": lambda a: cp.flatnonzero(a),
    "where": lambda a: cp.where(a > 0),
    "bincount": lambda a: cp.bincount(a.astype(int).ravel(), minlength=7),
    "extract": lambda a: cp.extract(a > 0, a),
    "compress": lambda a: a.compress(a[0] > 0, axis=1),
    "triu_indices": lambda a: cp.triu_indices(3),
    **{f: lambda a, f=f: getattr(cp, f)(a) for f in ("argsort", "sort", "lexsort", "unique")},
    **{f: lambda a, f=f: getattr(cp, f)(a, 1) for f in ("partition", "argpartition")},
    **{f"a.{f}": lambda a, f=f: getattr(a, f)() for f in ("argsort", "sort")},
    "a copy to pinned memory": lambda a: a.get(out=cupyx.zeros_pinned(a.shape, f4), blocking=False),  # CuPy refuses it as the others
    "print": lambda a: f"{a}",
    "device": lambda a: a.device.synchronize(),
    "stream": lambda a: cp.cuda.Stream(non_blocking=True).synchronize(),
    "event": lambda a: cp.cuda.Event().synchronize(),
    "runtime": lambda a: cp.cuda.runtime.deviceSynchronize(),
}


@pytest.mark.parametrize("what", WAITING)
def test_synchronisation_is_refused_where_it_is_not_allowed(what):
    a = cp.asarray(A)
    WAITING[what](a)
    with cupyx.allow_synchronize(False):
        with pytest.raises(DeviceSynchronized, match="hidden synchronisation"):
            WAITING[what](a)
        with cupyx.allow_synchronize(True):
            WAITING[what](a)
    WAITING[what](a)


def test_what_does_not_wait():
    with cupyx.allow_synchronize(False):
        a = cp.asarray(A)
        b = a * 2 + a.sum()
        b[b > 3] = 0
        b[0] = a[1]
        with cp.cuda.Stream(non_blocking=True) as stream:
            b.set(A, stream)
            stream.record()


# ---------------------------------------------------------------- kernels

SCALE = 'extern "C" __global__ void scale(const float* x, float* y, float by) { y[threadIdx.x] = by * x[threadIdx.x]; }'


@pytest.mark.skipif(emulator.unavailable() is not None, reason=str(emulator.unavailable()))
def test_a_kernel_on_device_arrays():
    scale = cp.RawModule(code=SCALE, options=("-std=c++17",)).get_function("scale")
    x, y = cp.asarray(A[0]), cp.empty(3, f4)
    scale((1,), (3,), (x, y, f4(2)))
    np.testing.assert_array_equal(y.get(), 2 * A[0])
    for args in [(A[0], y, f4(2)), (x, A[0], f4(2)), [x, y, f4(2)]]:
        with pytest.raises(TypeError, match=r"on the host|must be tuples"):
            scale((1,), (3,), args)
    with pytest.raises(TypeError, match="must be tuples"):
        scale(1, (3,), (x, y, f4(2)))
    with pytest.raises(AttributeError, match="exists in CuPy"):
        scale.num_regs  # noqa: B018


# ---------------------------------------------------------------- the fixture


def test_tensors_are_on_cuda(emulated_cuda):
    x = Tensor(A).to("cuda")
    assert x.device == "cuda:0"
    assert isinstance(x.data, emulated_cuda.ndarray)
    np.testing.assert_array_equal(x.numpy(), A)
    with pytest.raises(DeviceError, match="cpu and cuda:0"):
        x + Tensor(A)
    with pytest.raises(DeviceError, match="this machine has 1"):
        x.to("cuda:1")


def test_everything_is_as_before_afterwards(monkeypatch):
    other = types.ModuleType("cupy")
    monkeypatch.setitem(sys.modules, "cupy", other)
    monkeypatch.delitem(sys.modules, "cupyx", raising=False)
    with installed() as module:
        assert sys.modules["cupy"] is module is cp
        assert sys.modules["cupyx"] is cupyx
    assert sys.modules["cupy"] is other
    assert "cupyx" not in sys.modules


@pytest.fixture
def _after_the_fixture():
    yield
    assert sys.modules.get("cupy") is not cp
    assert ndarray not in arrays._namespaces


@pytest.mark.usefixtures("_after_the_fixture", "emulated_cuda")
def test_the_fixture_leaves_nothing():
    assert Tensor(A).to("cuda").device == "cuda:0"
    assert ndarray in arrays._namespaces
