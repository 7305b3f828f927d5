"""cupy.ndarray as a NumPy array that keeps host and device apart.

It is not a numpy.ndarray, and NumPy never sees the array inside. In every call, operator and index a NumPy
array is refused, even where CuPy would upload it silently.
"""

import functools
import operator
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .api import check_call, kind_of, missing
from .memory import Flags, poisoned
from .queue import queued, queued_call
from .synchronisation import synchronise

SCALARS = (bool, int, float, complex, np.generic)
IMPLICIT = "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array explicitly."


_PLAIN = frozenset((bool, int, float, complex, str, slice, type, type(None), type(Ellipsis)))  # what NumPy gets as it is


def inside(x: Any, where: str) -> Any:
    """Returns the NumPy arrays inside device arrays, also those in lists, tuples and dicts. Raises TypeError for a host array."""
    kind = type(x)
    if kind is ndarray:
        return x._raw
    if kind in _PLAIN:
        return x
    if isinstance(x, np.ndarray):
        raise TypeError(f"{where}: Unsupported type {type(x)}: a host array in a device call")
    if isinstance(x, (list, tuple)):
        return kind([inside(i, where) for i in x])
    if isinstance(x, dict):
        return {k: inside(v, where) for k, v in x.items()}
    return x


def outside(result: Any, args: tuple[Any, ...] = ()) -> Any:
    """Wraps NumPy's results as device arrays; a scalar becomes a 0-d array, and a view knows its base."""
    if isinstance(result, (np.ndarray, np.generic)):
        raw = np.asarray(result)
        return around(raw, None if raw.base is None else _owner(raw.base, args))
    if isinstance(result, (list, tuple)):
        return type(result)([outside(r, args) for r in result])
    return result


def _owner(base: Any, args: tuple[Any, ...]) -> "ndarray | None":
    """Returns the device array among the arguments that owns the memory `base`."""
    for a in args:
        if isinstance(a, (list, tuple)):
            found = _owner(base, tuple(a))
            if found is not None:
                return found
        elif isinstance(a, ndarray) and (a._raw is base or a._raw.base is base):
            return a if a._base is None else a._base
    return None


def call(f: Callable[..., Any], name: str, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """Calls f on the NumPy arrays inside device arrays, and wraps its result as device arrays."""
    raw = [x._raw if type(x) is ndarray else inside(x, name) for x in args]
    result = f(*raw, **inside(named, name)) if named else f(*raw)
    queued_call(name, result, raw)
    out = named.get("out")
    return outside(result, args) if out is None else out


class ndarray:
    """cupy.ndarray."""

    __module__ = "cupy"
    __slots__ = ("__weakref__", "_base", "_raw")
    __array_priority__ = 100
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, shape: Any, dtype: Any = float) -> None:
        object.__setattr__(self, "_raw", poisoned(shape, dtype))
        object.__setattr__(self, "_base", None)

    # ------------------------------------------------------------ the border

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError(IMPLICIT)

    def __array_ufunc__(self, ufunc: Any, method: str, *args: Any, **named: Any) -> Any:
        from .modules import cupy

        return getattr(getattr(cupy, ufunc.__name__), method)(*args, **named)

    def __array_function__(self, function: Any, types: Any, args: Any, named: Any) -> Any:
        from .modules import cupy

        if function.__module__ != "numpy":
            return NotImplemented
        return getattr(cupy, function.__name__)(*args, **named)

    # ------------------------------------------------------------ attributes and methods

    def __getattr__(self, name: str) -> Any:
        kind = kind_of("cupy.ndarray", name)
        if kind is None or not hasattr(self._raw, name) or name in ("ctypes", "dump", "dumps", "tofile", "flat"):
            raise missing("cupy.ndarray", name)
        found = getattr(self._raw, name)
        if kind == "function":
            return functools.partial(_method, self, name, found)
        return outside(found, (self,)) if isinstance(found, np.ndarray) else found

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_base":
            object.__setattr__(self, name, value)
        elif name in ("shape", "dtype", "strides"):
            raise AttributeError(f"the stand-in does not set {name!r} in place: use reshape or view")
        else:
            raise missing("cupy.ndarray", name)

    @property
    def flags(self) -> Flags:
        return Flags(self._raw)

    @property
    def base(self) -> "ndarray | None":
        return self._base

    @property
    def data(self) -> Any:
        return types.SimpleNamespace(ptr=self._raw.ctypes.data)

    @property
    def device(self) -> Any:
        from .modules import cuda

        return cuda.Device(0)

    def get(self, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True) -> np.ndarray:
        synchronise("get()", waits=blocking)
        queued("get")
        if out is None:
            return self._raw.copy(order=order)
        out[...] = self._raw
        return out

    def set(self, arr: np.ndarray, stream: Any = None) -> None:
        if not isinstance(arr, np.ndarray) or arr.dtype != self.dtype or arr.shape != self.shape:
            raise ValueError(f"set() needs a host array of {self.dtype} and shape {self.shape}")
        queued("upload")
        self._raw[...] = arr

    def __getitem__(self, key: Any) -> "ndarray":
        raw_key = _index(key)
        if any(isinstance(p, (np.ndarray, list)) for p in (raw_key if isinstance(raw_key, tuple) else (raw_key,))):
            queued("getitem")
        return outside(self._raw[raw_key], (self,))

    def __setitem__(self, key: Any, value: Any) -> None:
        raw_key = _index(key, masks_wait=isinstance(value, ndarray) and value.size > 1)
        parts = raw_key if isinstance(raw_key, tuple) else (raw_key,)
        if any(isinstance(p, (np.ndarray, list)) and np.asarray(p).dtype != bool for p in parts):
            hits = np.zeros(self.shape, np.int32)
            np.add.at(hits, raw_key, 1)
            if hits.size and hits.max() > 1:
                raise IndexError("a[key] = value with a position twice in the key: which value stays is undefined on a GPU")
        queued("setitem")
        self._raw[raw_key] = inside(value, "setitem")

    def __len__(self) -> int:
        return len(self._raw)

    def __iter__(self) -> Iterator["ndarray"]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        synchronise("repr()")
        return f"cupy.{self._raw!r}"

    def __str__(self) -> str:
        synchronise("str()")
        return str(self._raw)

    def __copy__(self) -> "ndarray":
        queued("copy")
        return around(self._raw.copy())

    def __deepcopy__(self, memo: Any) -> "ndarray":
        queued("copy")
        return around(self._raw.copy())


_set_raw, _set_base = (vars(ndarray)[name].__set__ for name in ("_raw", "_base"))


def around(raw: np.ndarray, base: ndarray | None = None) -> ndarray:
    """Returns a NumPy array as a device array."""
    self = object.__new__(ndarray)
    _set_raw(self, raw)
    _set_base(self, base)
    return self


for _name in ("shape", "dtype", "ndim", "size", "itemsize", "nbytes", "strides"):  # the others are found by __getattr__
    assert kind_of("cupy.ndarray", _name) == "value"
    setattr(ndarray, _name, property(operator.attrgetter(f"_raw.{_name}")))


def _method(self: ndarray, name: str, found: Callable[..., Any], *args: Any, **named: Any) -> Any:
    check_call("cupy.ndarray", name, (self, *args), named)
    if name in ("argpartition", "argsort", "compress", "item", "nonzero", "partition", "sort", "tobytes", "tolist"):
        synchronise(f"{name}()")
    if named.get("out") is not None:
        return call(found, name, args, named)
    result = found(*[inside(x, name) for x in args], **(inside(named, name) if named else {}))
    queued_call(name, result, (self._raw,))
    return outside(result, (self,))


def _index(key: Any, masks_wait: bool = True) -> Any:
    """Returns the key for the NumPy array inside; with a boolean mask the host waits for the number of elements."""
    parts = key if isinstance(key, tuple) else (key,)
    if masks_wait and any(isinstance(p, ndarray) and p.dtype == bool for p in parts):
        synchronise("an index that is a boolean mask")
    return tuple(inside(p, "index") for p in parts) if isinstance(key, tuple) else inside(key, "index")


# ---------------------------------------------------------------- operators

_BINARY = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "true_divide",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "pow": "power",
    "matmul": "matmul",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
    "lshift": "left_shift",
    "rshift": "right_shift",
}
_COMPARISONS = {"lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "eq": "equal", "ne": "not_equal"}


def _operator(function: str, reflected: bool = False, in_place: bool = False) -> Callable[[ndarray, Any], Any]:
    f: Any = getattr(np, function)

    def computed(a: ndarray, b: Any) -> Any:
        if type(b) is not ndarray and not isinstance(b, SCALARS):
            if isinstance(b, np.ndarray):
                raise TypeError(f"{function}: Unsupported type {type(b)}: a host array beside a device array")
            return NotImplemented
        other = b._raw if type(b) is ndarray else b
        queued(function)
        if in_place:
            f(a._raw, other, out=a._raw)
            return a
        return outside(f(other, a._raw) if reflected else f(a._raw, other))

    return computed


for _name, _function in _BINARY.items():
    setattr(ndarray, f"__{_name}__", _operator(_function))
    setattr(ndarray, f"__r{_name}__", _operator(_function, reflected=True))
    if _name != "matmul":  # CuPy has no __imatmul__
        setattr(ndarray, f"__i{_name}__", _operator(_function, in_place=True))
for _name, _function in _COMPARISONS.items():
    setattr(ndarray, f"__{_name}__", _operator(_function))


def _unary(name: str) -> Callable[[ndarray], ndarray]:
    def computed(self: ndarray) -> ndarray:
        queued(name)
        return outside(getattr(self._raw, name)())

    return computed


for _name in ("__neg__", "__pos__", "__abs__", "__invert__"):
    setattr(ndarray, _name, _unary(_name))


def _to_python(name: str) -> Callable[[ndarray], Any]:
    def convert(self: ndarray) -> Any:
        synchronise(f"{name.strip('_')}()")
        return getattr(self._raw, name)()

    return convert


for _name in ("__bool__", "__int__", "__float__", "__complex__"):  # there is no __index__
    setattr(ndarray, _name, _to_python(_name))
