"""The modules cupy, cupy.cuda, cupyx and cupyx.scipy.special, made of NumPy and SciPy."""

import contextlib
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy import special as scipy_special

from ..emulator.launching import MOST_SHARED, Card
from .api import VERSION, check_call, kind_of, missing
from .arrays import SCALARS, around, call, inside, ndarray, outside
from .devices import CUDARuntimeError, Device, Event, MemoryPool, Stream
from .kernels import RawKernel, RawModule
from .memory import poisoned
from .queue import queue, queued
from .synchronisation import DeviceSynchronized, allow_synchronize, synchronise

AT = ("add", "subtract", "maximum", "minimum", "bitwise_and", "bitwise_or", "bitwise_xor")
METHODS = {"reduce": ("add", "multiply"), "accumulate": ("add", "multiply"), "reduceat": ("add",)}
WAITING = (  # the host needs the number of elements, or reads the values, or Thrust sorts, which waits for its own kernels
    "argpartition", "argsort", "argwhere", "bincount", "compress", "extract", "flatnonzero", "intersect1d", "lexsort", "nonzero",
    "partition", "setdiff1d", "sort", "tril_indices", "triu_indices", "union1d", "unique",
)  # fmt: skip
SILENT = {  # CuPy's code of these was read and does not wait; read it before you add one
    "all", "amax", "amin", "any", "arange", "argmax", "argmin", "broadcast_to", "can_cast", "clip",
    "concatenate", "copyto", "count_nonzero", "cumsum", "dot", "expand_dims", "flip", "full", "full_like", "hstack", "max",
    "mean", "min", "moveaxis", "ones", "ones_like", "outer", "pad", "prod", "ravel", "repeat", "reshape", "result_type",
    "round", "split", "squeeze", "stack", "std", "sum", "swapaxes", "take", "take_along_axis", "tile", "transpose",
    "tri", "tril", "triu", "var", "vstack", "where", "zeros", "zeros_like",
}  # fmt: skip


class Module(types.ModuleType):
    """A module that looks its names up in the table of the real one."""

    def __init__(self, name: str, make: Callable[[str], Any] | None = None) -> None:
        super().__init__(name)
        self._make = make

    def __getattr__(self, name: str) -> Any:
        owner = self.__name__
        if name.startswith("__") or self._make is None or kind_of(owner, name) is None:
            raise missing(owner, name) if not name.startswith("__") else AttributeError(name)
        setattr(self, name, self._make(name))
        return self.__dict__[name]


class Ufunc:
    """cupy.ufunc: no `where`, and few methods."""

    def __init__(self, owner: str, name: str, function: Callable[..., Any]) -> None:
        self._owner, self.__name__, self._function = owner, name, function

    def __call__(self, *args: Any, **named: Any) -> Any:
        check_call(self._owner, self.__name__, args, named)
        for x in args:
            if type(x) is not ndarray and not isinstance(x, SCALARS):
                raise TypeError(f"{self._owner}.{self.__name__}: Unsupported type {type(x)}")
        if not any(isinstance(x, ndarray) for x in (*args, named.get("out"))):
            raise TypeError(f"{self._owner}.{self.__name__}: none of the arguments is a device array")
        return call(self._function, self.__name__, args, named)

    def at(self, a: ndarray, indices: Any, b: Any = None) -> None:
        if self.__name__ not in AT:
            raise NotImplementedError(f"`cupy_{self.__name__}.at` is not supported yet")
        self._function.at(a._raw, inside(indices, "at"), inside(b, "at"))  # type: ignore[attr-defined]

    def _method(self, method: str, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if self.__name__ not in METHODS[method]:
            raise NotImplementedError(f"`cupy_{self.__name__}.{method}` is not supported yet")
        return call(getattr(self._function, method), method, args, named)

    def reduce(self, *args: Any, **named: Any) -> Any:
        return self._method("reduce", args, named)

    def accumulate(self, *args: Any, **named: Any) -> Any:
        return self._method("accumulate", args, named)

    def reduceat(self, *args: Any, **named: Any) -> Any:
        return self._method("reduceat", args, named)


def _from(owner: str, numpy_module: Any) -> Callable[[str], Any]:
    """Makes the names of a module from those of its NumPy or SciPy counterpart."""

    def make(name: str) -> Any:
        kind, found = kind_of(owner, name), getattr(numpy_module, name, None)
        if found is None or (kind == "function" and name not in SILENT and name not in WAITING):
            raise missing(owner, name)
        if kind == "ufunc":
            return Ufunc(owner, name, found)
        if kind != "function":
            return found  # dtypes, pi, newaxis

        def function(*args: Any, **named: Any) -> Any:
            check_call(owner, name, args, named)
            if name in WAITING or (name == "where" and len(args) == 1):
                synchronise(f"{name}()")
            result = call(found, name, args, named)
            return outside(np.asarray(result)) if isinstance(result, bool) else result

        function.__name__ = name
        return function

    return make


cupy = Module("cupy", _from("cupy", np))
cupy.ndarray, cupy.ufunc, cupy.RawModule, cupy.RawKernel = ndarray, Ufunc, RawModule, RawKernel
cupy.__version__ = VERSION

# ---------------------------------------------------------------- from the host, to the host, out of nothing


def _made(function: Callable[..., Any]) -> Callable[..., Any]:
    """Puts a function into cupy under its own name, with its arguments checked."""
    name = function.__name__

    def checked(*args: Any, **named: Any) -> Any:
        check_call("cupy", name, args, named)
        return function(*args, **named)

    setattr(cupy, name, checked)
    return checked


@_made
def asarray(a: Any, dtype: Any = None, order: Any = None, *, copy: Any = None, blocking: bool = False) -> ndarray:
    if isinstance(a, ndarray) and not copy and (dtype is None or a.dtype == dtype) and order is None:
        return a
    return array(a, dtype, order=order or "K")


@_made
def array(
    a: Any, dtype: Any = None, copy: Any = True, order: str = "K", subok: bool = False, ndmin: int = 0, *, blocking: bool = False
) -> ndarray:
    host = a if isinstance(a, np.ndarray) else inside(a, "array")
    queued("copy" if isinstance(a, ndarray) else "upload")
    return around(np.array(host, dtype, copy=True, order=order, ndmin=ndmin))


@_made
def ascontiguousarray(a: Any, dtype: Any = None) -> ndarray:
    if isinstance(a, ndarray) and a._raw.flags.c_contiguous and a.ndim and dtype in (None, a.dtype):
        return a
    return array(a, dtype, order="C", ndmin=1)


@_made
def asnumpy(a: Any, stream: Any = None, order: str = "C", out: Any = None, *, blocking: bool = True) -> np.ndarray:
    return a.get(stream, order, out, blocking) if isinstance(a, ndarray) else np.asarray(a)


@_made
def empty(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    return around(poisoned(shape, dtype, order))


@_made
def empty_like(prototype: ndarray, dtype: Any = None, order: str = "K", subok: Any = None, shape: Any = None) -> ndarray:
    made = outside(np.empty_like(inside(prototype, "empty_like"), dtype, order, shape=shape))
    made._raw[...] = poisoned((), made.dtype)
    return made


@_made
def get_array_module(*args: Any) -> Any:
    return cupy if any(isinstance(a, ndarray) for a in args) else np


@_made
def is_available() -> bool:
    return True


@_made
def matmul(*args: Any, **named: Any) -> Any:
    for x in args:
        if not isinstance(x, ndarray):
            raise TypeError(f"cupy.matmul: Unsupported type {type(x)}")
    return call(np.matmul if queue.computing else _zeros_of_product, "matmul", args, named)


def _zeros_of_product(a: np.ndarray, b: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Returns zeros in the shape of a @ b."""
    if out is None:
        return np.zeros((*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1]), np.result_type(a, b))
    out[...] = 0
    return out


@_made
def einsum(*operands: Any, **named: Any) -> Any:
    if unknown := set(named) - {"dtype", "optimize"}:
        raise TypeError(f"Did not understand the following kwargs: {sorted(unknown)}")
    return call(np.einsum, "einsum", operands, named)


# ---------------------------------------------------------------- cupy.cuda

cupy.get_default_memory_pool = MemoryPool
cuda = cupy.cuda = Module("cupy.cuda")
cuda.Device, cuda.Event, cuda.Stream = Device, Event, Stream
cuda.MemoryPool, cuda.set_allocator = MemoryPool, lambda allocator=None: None
cuda.get_elapsed_time = lambda start, end: 1e3 * (end.time - start.time)
cuda.is_available = lambda: True
cuda.get_current_stream = lambda device_id=-1: Stream()
cuda.get_device_id = lambda: 0
runtime = cuda.runtime = Module("cupy.cuda.runtime")
runtime.CUDARuntimeError = CUDARuntimeError
runtime.getDeviceCount = lambda: 1
runtime.getDevice = lambda: 0
runtime.deviceSynchronize = lambda: synchronise("deviceSynchronize()")
runtime.driverGetVersion = runtime.runtimeGetVersion = lambda: 12090
PROPERTIES = {"name": b"an emulated GPU", "major": 7, "minor": 5}
runtime.getDeviceProperties = lambda device: {**PROPERTIES, "multiProcessorCount": Card.multiprocessors}
ATTRIBUTES: dict[int, Callable[[], int]] = {  # cudaDeviceAttr -> its value
    16: lambda: Card.multiprocessors,
    95: lambda: int(Card.cooperative),
    97: lambda: MOST_SHARED,
}
runtime.cudaDevAttrMultiProcessorCount, runtime.cudaDevAttrCooperativeLaunch, runtime.cudaDevAttrMaxSharedMemoryPerBlockOptin = ATTRIBUTES
runtime.deviceGetAttribute = lambda attrib, device: ATTRIBUTES[attrib]()
nvrtc = cuda.nvrtc = Module("cupy.cuda.nvrtc")
nvrtc.getVersion = lambda: (12, 9)

# ---------------------------------------------------------------- cupyx

cupyx = Module("cupyx")
cupyx.DeviceSynchronized, cupyx.allow_synchronize = DeviceSynchronized, allow_synchronize
cupyx.rsqrt = Ufunc("cupyx", "rsqrt", lambda x, **named: np.reciprocal(np.sqrt(x), **named))
cupyx.empty_pinned = lambda shape, dtype=float, order="C": poisoned(shape, dtype, order)
cupyx.empty_like_pinned = lambda a, dtype=None: poisoned(a.shape, dtype or a.dtype)
cupyx.zeros_pinned = lambda shape, dtype=float, order="C": np.zeros(shape, dtype, order)
cupyx.scipy = types.ModuleType("cupyx.scipy")
cupyx.scipy.special = Module("cupyx.scipy.special", _from("cupyx.scipy.special", scipy_special))

MODULES = {m.__name__: m for m in (cupy, cuda, runtime, nvrtc, cupyx, cupyx.scipy, cupyx.scipy.special)}


@contextlib.contextmanager
def installed() -> Iterator[Any]:
    """Within it, `import cupy` and `import cupyx` give the stand-in."""
    before = _taken_out()
    sys.modules.update(MODULES)
    try:
        yield cupy
    finally:
        _taken_out()
        sys.modules.update(before)


def _taken_out() -> dict[str, types.ModuleType]:
    """Removes cupy and cupyx, with all below them, from the loaded modules, and returns them."""
    names = [n for n in sys.modules if n.startswith("cupy") and n.split(".")[0] in ("cupy", "cupyx")]
    return {name: sys.modules.pop(name) for name in names}
