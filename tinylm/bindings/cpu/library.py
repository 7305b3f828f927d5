"""The library of the CPU kernels in this process: loaded at the first call, with its pool and its matrix product.

The modules that compile it are imported then, too, so that importing tinylm stays light.
"""

import ctypes
import importlib
import re
import sys
import threading
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from tinylm.engine.arrays import Array
from tinylm.engine.kernels import kernels_on
from tinylm.errors import ShapeError

_EXPORT = re.compile(r"^EXPORT int (\w+)\(([^)]*)\)", re.MULTILINE)
_NUMBERS: dict[str, Any] = {"int": ctypes.c_int, "int64_t": ctypes.c_int64, "uint64_t": ctypes.c_uint64, "float": ctypes.c_float}
_FLOAT32 = np.dtype(np.float32)
_ARRAYS = {
    "float": _FLOAT32,
    "void": _FLOAT32,  # a weight, see `as_weight`
    "int64_t": np.dtype(np.int64),
    "uint8_t": np.dtype(np.uint8),
}
FORMATS = {"F16": 1, "BF16": 2, "Q4_0": 3, "Q4_1": 4, "Q8_0": 5, "Q4_K": 6, "Q6_K": 7}  # as in kernels/cpu/stored_weights.h; 0: float32
LARGEST = 2**31 - 1  # the rows and columns that an sgemm counts
_NO_MEMORY, _ID_OUT_OF_RANGE = 1, 2  # what a function returns, else 0


class Struct(ctypes.Structure):
    """Base of the structs that kernels take, each with the name and the fields of a struct in kernels/cpu."""

    known: ClassVar[dict[str, type[ctypes.Structure]]] = {}

    def __init_subclass__(cls) -> None:
        Struct.known[cls.__name__] = cls


class Library:
    """The exported functions by name, the number of threads, the compiler, and the path of the compiled file."""

    def __init__(self, compiling: Any) -> None:
        self.threads = _part("cores").thread_count()
        handle, self.place = compiling.load()
        self.compiler = " ".join(compiling.compiler())
        self.functions: dict[str, Any] = {}
        self.dtypes: dict[str, list[Any]] = {}  # of the arrays that a function takes
        for name, parameters in signatures(compiling.sources()).items():
            self.functions[name] = function = getattr(handle, name)
            function.argtypes, function.restype = [kind for kind, _ in parameters], ctypes.c_int
            self.dtypes[name] = [dtype for _, dtype in parameters]
        check_sizes({name: int(getattr(handle, f"size_of_{name}")()) for name in Struct.known})
        self.sgemm = _part("blas").sgemm()
        self.functions["use_sgemm"](self.sgemm)
        self.functions["pool_size"](self.threads)
        self.functions["keep_memory"]()


def _part(name: str) -> Any:
    return importlib.import_module(f"tinylm.bindings.cpu.{name}")


def check_sizes(compiled: dict[str, int]) -> None:
    """Compares the size of every Struct with the compiled one. Raises TypeError if they differ."""
    for name, size in compiled.items():
        if size != ctypes.sizeof(Struct.known[name]):
            raise TypeError(f"the struct {name} has {ctypes.sizeof(Struct.known[name])} bytes in Python, {size} in kernels/cpu")


def signatures(sources: dict[str, str]) -> dict[str, list[tuple[Any, Any]]]:
    """Returns the parameters of each exported function, read from its declaration: the ctypes, and for an array the dtype."""
    found = {}
    for text in sources.values():
        for name, declared in _EXPORT.findall(text):
            found[name] = [_parameter(p) for p in declared.split(",") if p != "void"]
    return found


def _parameter(declared: str) -> tuple[Any, Any]:
    kind = declared.replace("const ", "").split()[0]
    if "*" not in declared:
        return _NUMBERS[kind], None
    return (ctypes.POINTER(Struct.known[kind]), None) if kind in Struct.known else (ctypes.c_void_p, _ARRAYS.get(kind))


_lock = threading.Lock()
_loaded: Library | None = None
_problem: str | None = None


def library() -> Library | None:
    """Returns the library, compiled and loaded at the first call, or None, after one notice, if that is impossible.
    Raises ConfigError for a wrong TINYLM_NUM_THREADS or TINYLM_CPU_TARGET."""
    global _loaded, _problem
    if _loaded is None and _problem is None:
        with _lock:
            if _loaded is None and _problem is None:
                compiling = _part("compiling")
                try:
                    _loaded = Library(compiling)
                except compiling.BuildError as error:
                    _problem = f"the CPU kernels cannot be compiled: {error}; NumPy does their work, several times as slowly"
                    compiling.say(_problem)
    return _loaded


def problem() -> str | None:
    """Returns why `library` has returned None."""
    return _problem


def call(name: str, *args: Any) -> bool:
    """Calls an exported function. C-contiguous arrays of the declared dtype, Strided arrays and Structs are passed as pointers,
    None as a null pointer, numbers as they are. Returns False if the function has met an id that is out of range.

    Raises ShapeError for an array of another dtype or layout, MemoryError if the function had too little memory.
    """
    found = library()
    assert found is not None, "the binding has asked for the library before"
    pointers = [_pointer(name, a, dtype) if isinstance(a, np.ndarray) else a for a, dtype in zip(args, found.dtypes[name], strict=True)]
    status = found.functions[name](*pointers)
    if status == _NO_MEMORY:
        raise MemoryError(f"{name}: not enough memory for its workspace")
    return bool(status != _ID_OUT_OF_RANGE)


def _pointer(name: str, a: Array, dtype: Any) -> int:
    if (a.dtype is not dtype and a.dtype != dtype) or not a.flags.c_contiguous:
        raise ShapeError(f"{name}: an array has dtype {a.dtype} and strides {a.strides}, expected contiguous {dtype}")
    return address(a)


_HEAD, _void_pointer_at = object.__basicsize__, ctypes.c_void_p.from_address  # looked up once: this runs for every argument


def _fast_address(a: Array) -> int:
    """Returns the data pointer of an ndarray, which is the first field after the header of every object. That takes a third of the
    time of the attribute ctypes.data, which matters in small models."""
    return _void_pointer_at(id(a) + _HEAD).value or 0


_probe = np.zeros(3, np.float32)[1:]
_fast = sys.implementation.name == "cpython" and _fast_address(_probe) == _probe.ctypes.data
address: Callable[[Array], int] = _fast_address if _fast else lambda a: a.ctypes.data


class Strided:
    """An array in any layout and dtype, for a kernel that is also given its strides."""

    __slots__ = ("_as_parameter_", "array")

    def __init__(self, array: Array) -> None:
        self.array, self._as_parameter_ = array, address(array)  # ctypes looks for the second one


def contiguous(x: Array) -> Array:
    """Returns x, an array or a NumPy scalar, as a float32 array in C order: x itself if it is one."""
    if x.dtype is _FLOAT32 and x.flags.c_contiguous and type(x) is np.ndarray:
        return x
    return np.ascontiguousarray(x, _FLOAT32).reshape(x.shape)


def as_weight(x: Array | None) -> tuple[Any, int]:
    """Returns what `call` takes for a weight, None for a missing one, and the number of its format: weights as their file has them go to
    the kernel as they are, if it reads their format; others as float32."""
    if x is None or type(x) is np.ndarray:
        return None if x is None else contiguous(x), 0
    number = FORMATS.get(getattr(x, "format", ""), 0)
    return (x, number) if number else (contiguous(x), 0)


def reads(format: str) -> bool:
    """Returns whether the kernels take a weight of this format: they must be switched on and compiled."""
    return format in FORMATS and kernels_on() and library() is not None
