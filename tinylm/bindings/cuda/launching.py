"""Finding, compiling and launching the CUDA kernels of kernels/cuda.

Nothing here imports CuPy: its RawModule comes from the namespace of the arrays that a kernel is
launched on, so importing tinylm on a machine without a GPU costs nothing.
"""

import functools
import math
import re
from typing import Any, NamedTuple

import numpy as np

from tinylm.bindings.kernel_sources import kernel_folder
from tinylm.engine.arrays import Array, array_module
from tinylm.errors import ShapeError

OPTIONS = ("-std=c++17",)  # CuPy adds the architecture and -ftz=true

_MOST_THREADS = 1024  # of a block, on every GPU
_LARGEST_GRID = (2**31 - 1, 65535, 65535)
_NULL = np.uintp(0)  # older CuPy takes None for "no argument at all"

_INCLUDE = re.compile(r'^#include "([\w.]+)"[^\n]*$', re.MULTILINE)
_KERNEL = re.compile(r'extern "C" __global__ void\s+(?:__launch_bounds__\([^)]*\)\s*)?(\w+)\s*\(([^)]*)\)')
_TYPES: dict[str, np.dtype[Any]] = {
    "float": np.dtype("float32"),
    "int": np.dtype("int32"),
    "unsigned int": np.dtype("uint32"),
    "long long": np.dtype("int64"),
    "unsigned long long": np.dtype("uint64"),
    "bool": np.dtype("bool"),
}


folder = functools.partial(kernel_folder, "cuda")


@functools.cache
def source(name: str) -> str:
    """Returns the text of kernels/cuda/<name>.cu with its #include "..." lines replaced by the files they
    name: the compiler needs no search path, and CuPy's cache sees every change. CuPy writes the text
    to a file in the locale's encoding, so a letter that is not ASCII, as in comments, becomes a "?"."""
    text = (folder() / f"{name}.cu").read_text(encoding="utf-8")

    def included(match: re.Match[str]) -> str:
        header = (folder() / match[1]).read_text(encoding="utf-8")
        line = text.count("\n", 0, match.start()) + 2
        return f'#line 1 "{match[1]}"\n{header}\n#line {line} "{name}.cu"'

    return _INCLUDE.sub(included, text).encode("ascii", "replace").decode("ascii")


def signatures(text: str) -> dict[str, list[tuple[np.dtype[Any], bool]]]:
    """Returns (dtype, whether it is a pointer) for each parameter of each kernel in a source."""
    found = {}
    for kernel, parameters in _KERNEL.findall(text):
        types = []
        for parameter in parameters.split(","):
            declared = re.sub(r"\b(const|__restrict__)\b", "", parameter).replace("*", " * ").split()
            types.append((_TYPES[" ".join(w for w in declared[:-1] if w != "*")], "*" in declared))
        found[kernel] = types
    return found


class Strided(NamedTuple):
    """An array argument in any layout, for a kernel that is also given the strides."""

    array: Array


class CudaSource:
    """One file of kernels/cuda, compiled when one of its kernels is first launched on a device."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._modules: dict[int, Any] = {}
        self._functions: dict[tuple[str, int], Any] = {}

    @functools.cached_property
    def signatures(self) -> dict[str, list[tuple[np.dtype[Any], bool]]]:
        return signatures(source(self.name))

    def launch(self, kernel: str, grid: tuple[int, ...], block: tuple[int, ...], *args: Any) -> None:
        """Runs `kernel` on the device of its first argument, an array; an empty grid runs nothing.

        args: for a pointer a C-contiguous array of the pointer's dtype, a Strided one, or None for a null pointer;
        for a scalar a number, which gets the parameter's type.
        Raises ShapeError for arguments or a launch that the kernel's declaration or the hardware does not allow.
        """
        if 0 in grid:
            return
        threads = math.prod(block)
        if not 0 < threads <= _MOST_THREADS or any(n > most for n, most in zip(grid, _LARGEST_GRID, strict=False)):
            raise ShapeError(f"{kernel}: a grid of {grid} blocks of {block} threads is beyond the hardware's limits")
        types = self.signatures[kernel]
        if len(args) != len(types):
            raise ShapeError(f"{kernel}: {len(args)} arguments for {len(types)} parameters")
        values = [_argument(kernel, i, a, *types[i]) for i, a in enumerate(args)]
        with args[0].device as device:
            self._function(kernel, device.id, args[0])(grid, block, tuple(values))

    def _function(self, kernel: str, device: int, array: Array) -> Any:
        found = self._functions.get((kernel, device))
        if found is None:
            if device not in self._modules:
                self._modules[device] = array_module(array).RawModule(code=source(self.name), options=OPTIONS)
            found = self._functions[kernel, device] = self._modules[device].get_function(kernel)
        return found


def _argument(kernel: str, index: int, value: Any, dtype: np.dtype[Any], pointer: bool) -> Any:
    if not pointer:
        return dtype.type(value)  # OverflowError when it does not fit
    if value is None:
        return _NULL
    any_layout = isinstance(value, Strided)
    if any_layout:
        value = value.array
    if value.dtype != dtype or not (any_layout or value.flags.c_contiguous):
        raise ShapeError(f"{kernel}: argument {index} has dtype {value.dtype} and strides {value.strides}, expected contiguous {dtype}")
    return value


def contiguous(x: Array, dtype: Any = None) -> Array:
    """Returns x in C order (and in dtype): x itself if it is already."""
    if x.flags.c_contiguous and (dtype is None or x.dtype == dtype):
        return x
    return array_module(x).asarray(x, dtype, order="C")


def row_threads(columns: int) -> int:
    """Returns the number of threads of a block that serves one row: whole warps, about four columns per thread."""
    return min(max(-(-columns // 128), 1), 16) * 32
