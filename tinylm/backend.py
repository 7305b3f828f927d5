"""Devices: which array module an array belongs to, and moving arrays.

An array on the CPU is a NumPy array, an array on a GPU is a CuPy array, and nothing else in
tinylm knows the difference: op bodies ask `array_module` for "the NumPy of these arrays".
"""

import importlib
import sys
import types
from typing import Any, TypeAlias

import numpy as np

from tinylm.cuda_probe import load_cupy
from tinylm.errors import DeviceError, RangeError, ShapeError

Array: TypeAlias = Any  # a numpy.ndarray or a cupy.ndarray; inside a re-run op body also a Tensor


class Namespace:
    """NumPy (or CuPy) plus the few functions both lack, looked up once and then remembered."""

    def __init__(self, module: types.ModuleType, special: str, **extra: Any) -> None:
        self.__dict__.update(extra)
        self._module = module
        self._special = special  # where erf and the logistic function live

    def __getattr__(self, name: str) -> Any:
        if name == "erf":
            value = importlib.import_module(self._special).erf
        elif name == "sigmoid":
            value = importlib.import_module(self._special).expit
        else:
            value = getattr(self._module, name)
        self.__dict__[name] = value
        return value


# ---------------------------------------------------------------- functions that NumPy lacks


def sum_to(x: Array, shape: tuple[int, ...]) -> Array:
    """Sums x down to `shape`: the adjoint of broadcasting `shape` up to x.shape."""
    if x.shape == shape:
        return x
    lead = x.ndim - len(shape)
    axes = tuple(range(lead)) + tuple(i + lead for i, n in enumerate(shape) if n == 1 and x.shape[i + lead] != 1)
    x = array_module(x).sum(x, axis=axes, keepdims=True)
    return array_module(x).reshape(x, shape) if lead else x


def sum_like(x: Array, a: Any) -> Array | None:
    """x summed down to the shape of the argument a; None when a is a Python number."""
    if isinstance(a, (int, float)):
        return None
    return x if x.shape == a.shape else sum_to(x, a.shape)


def is_basic_index(key: Any) -> bool:
    """True when x[key] is a view: only integers, slices, None and Ellipsis."""
    parts = key if isinstance(key, tuple) else (key,)
    return all(
        p is None or p is Ellipsis or isinstance(p, slice) or (isinstance(p, (int, np.integer)) and p is not True and p is not False)
        for p in parts
    )


def _scatter_add(xp: Any) -> Any:
    def scatter_add(values: Array, key: Any, shape: tuple[int, ...]) -> Array:
        """Zeros of `shape` with `values` added at [key], repeated positions in a fixed order."""
        out = xp.zeros(shape, values.dtype)
        if is_basic_index(key):
            out[key] = values
        elif isinstance(key, xp.ndarray) and key.dtype.kind in "iu" and values.size:
            # Rows of a table: sort the ids, then one sum a run of equal ids (on a GPU, counting the runs waits).
            flat = key.reshape(-1) % shape[0]  # a negative index is its positive twin
            rows = values.reshape(flat.size, -1)
            order = xp.argsort(flat, kind="stable")
            ids = flat[order]
            starts = xp.flatnonzero(xp.concatenate([xp.ones(1, bool), ids[1:] != ids[:-1]]))
            out.reshape(shape[0], -1)[ids[starts]] = xp.add.reduceat(rows[order], starts, axis=0)
        elif values.size:
            # Any other index: name each position once, then add up as rows of width 1.
            positions = xp.arange(out.size).reshape(shape)[key]
            flat_out = scatter_add(xp.broadcast_to(values, positions.shape).reshape(-1), positions.reshape(-1), (out.size,))
            out = flat_out.reshape(shape)
        return out

    return scatter_add


def _index_add(a: Array, values: Array, key: Any) -> Array:
    """a with `values` added at the distinct positions [key]; a is given up and may be overwritten."""
    a[key] += values
    return a


def is_number(x: Any) -> bool:
    """True for a Python number, which has no gradient."""
    return isinstance(x, (int, float))


# ---------------------------------------------------------------- which module owns an array


def _namespace(module: Any, special: str) -> Namespace:
    extra = {"scatter_add": _scatter_add(module), "index_add": _index_add, "to_device": lambda x, device: to_device(x, device)}
    return Namespace(module, special, **extra)


_numpy = _namespace(np, "scipy.special")
_namespaces: dict[type, Any] = {np.ndarray: _numpy}
_tensor_kinds: set[type] = set()


def register_tensor_namespace(kind: type, namespace: Any) -> None:
    """Makes `array_module` answer `namespace` for Tensors (called once, by tinylm.ops)."""
    _namespaces[kind] = namespace
    _tensor_kinds.add(kind)


def _namespace_of_kind(kind: type) -> Any:
    for base in kind.__mro__:
        if base in _namespaces:
            found = _namespaces[base]
            _namespaces[kind] = found
            if base in _tensor_kinds:
                _tensor_kinds.add(kind)
            return found
    if kind.__module__.split(".")[0] == "cupy":
        return cuda_namespace()
    return None


def array_module(*arrays: Array) -> Any:
    """The NumPy of these arrays: NumPy's or CuPy's namespace, or tinylm's ops for Tensors.

    Besides NumPy's names it has `erf`, `sigmoid`, `scatter_add` and `index_add`. None and Python numbers
    belong to every module. As soon as one argument is a Tensor the answer is tinylm.ops, which
    is how a re-run op body records its own derivative.
    """
    found = _numpy
    for a in arrays:
        kind = type(a)
        if kind is np.ndarray:
            continue
        space = _namespaces.get(kind) or _namespace_of_kind(kind)
        if space is None:
            continue
        if kind in _tensor_kinds:
            return space
        found = space
    return found


def constant(x: Array) -> Array:
    """The raw array of x, also when x is a Tensor: for masks, indices and shifts without a gradient."""
    return x.data if type(x) in _tensor_kinds else x


def raw_module(x: Array) -> Any:
    """NumPy's or CuPy's namespace even when x is a Tensor."""
    return array_module(constant(x))


# ---------------------------------------------------------------- devices


def parse_device(device: str) -> tuple[str, int]:
    """("cpu", 0) or ("cuda", index) from "cpu", "cuda" or "cuda:1"; DeviceError for anything else."""
    kind, _, index = str(device).partition(":")
    if device == "cpu" or (kind == "cuda" and (index.isdigit() or device == "cuda")):
        return kind, int(index or 0)
    raise DeviceError(f"unknown device {device!r}: expected 'cpu', 'cuda' or 'cuda:N'")


def device_of(array: Array) -> str:
    """ "cpu" or "cuda:N"."""
    return "cpu" if isinstance(array, (np.ndarray, np.generic)) else f"cuda:{array.device.id}"


def cuda_namespace() -> Any:
    """CuPy's namespace, or a DeviceError that says which piece is missing and how to get it."""
    if getattr(sys.modules.get("cupy"), "ndarray", None) not in _namespaces:
        cupy = load_cupy()
        _namespaces[cupy.ndarray] = _namespace(cupy, "cupyx.scipy.special")
    return _namespaces[sys.modules["cupy"].ndarray]


def device_namespace(device: str) -> Any:
    """The namespace that makes arrays on `device`; DeviceError when it is not to be had.

    CuPy makes arrays, and computes, on its current GPU: a GPU that is asked for becomes the current one.
    """
    kind, index = parse_device(device)
    if kind == "cpu":
        return _numpy
    space = cuda_namespace()
    runtime = space.cuda.runtime
    count = runtime.getDeviceCount()
    if index >= count:
        raise DeviceError(f"device {device!r} does not exist: this machine has {count} (cuda:0 to cuda:{count - 1})")
    if runtime.getDevice() != index:
        space.cuda.Device(index).use()
    return space


def make_current(array: Array) -> None:
    """Has CuPy compute on the GPU where the array is."""
    if not isinstance(array, (np.ndarray, np.generic)):
        device = array.device
        if device.id != array_module(array).cuda.runtime.getDevice():
            device.use()


def to_device(array: Array, device: str) -> Array:
    """The same values on `device`; the array itself when it is there already.

    From the host to a GPU nothing is waited for: CuPy copies the values to pinned memory at once, so
    that `array` may be overwritten, and queues the transfer from there before what is computed next.
    The other way waits for the GPU, and then raises what `check_ids` found there.
    """
    space = device_namespace(device)
    if space is not _numpy:
        return space.asarray(array)
    if isinstance(array, (np.ndarray, np.generic)):
        return array
    values = array.get()
    _raise_found()
    return values


def to_numpy(array: Array) -> np.ndarray:
    """A NumPy array with the values (the array itself when it is one)."""
    return array if isinstance(array, np.ndarray) else np.asarray(to_device(array, "cpu"))


# ---------------------------------------------------------------- ids

# (device, what, size) of each check made on a GPU -> the largest id met since a value last came from there
_largest: dict[tuple[str, str, int], Array] = {}


def check_ids(ids: Array, size: int, what: str) -> None:
    """RangeError unless ids are integers in [0, size); `what` names them in the message.

    Looking at ids on a GPU would stall it. They are checked there, and the error comes with the next
    value that is copied to the host, which waits for the GPU anyway; until then kernels meet such
    ids and must stay within their arrays all the same.
    """
    if not hasattr(ids, "dtype") or ids.dtype.kind not in "iu":
        raise ShapeError(f"{what} must be an array of integers, got {getattr(ids, 'dtype', type(ids).__name__)}")
    if ids.size == 0:
        return
    if isinstance(ids, np.ndarray):
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= size:
            raise RangeError(f"{what} {low if low < 0 else high} is out of range: expected 0 to {size - 1}")
        return
    largest = ids.astype(np.int64, copy=False).view(np.uint64).max()  # a negative number is a huge one
    key = (device_of(ids), what, size)
    if key in _largest:
        largest = array_module(largest).maximum(_largest[key], largest)
    _largest[key] = largest


def _raise_found() -> None:
    """RangeError for the first check on a GPU that met an id out of range."""
    checks = [(what, size, largest.get()) for (_, what, size), largest in _largest.items()]
    _largest.clear()
    for what, size, largest in checks:
        if largest >= size:
            raise RangeError(f"{what} {int(largest.view(np.int64))} is out of range: expected 0 to {size - 1}")
