"""Finding, compiling and launching the CUDA kernels of kernels/cuda.

Nothing here imports CuPy: its RawModule comes from the namespace of the arrays that a kernel is
launched on, so importing tinylm on a machine without a GPU costs nothing.
"""

import functools
import math
import operator
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tinylm.bindings.kernel_sources import kernel_folder
from tinylm.engine.arrays import Array, array_module
from tinylm.engine.devices import make_current
from tinylm.errors import ShapeError

OPTIONS = ("-std=c++17",)  # CuPy adds the architecture and -ftz=true

_MOST_THREADS = 1024  # of a block, on every GPU
_LARGEST_GRID = (2**31 - 1, 65535, 65535)
_SHARED_BY_DEFAULT = 48 * 1024  # bytes of dynamic shared memory that a kernel may have without asking for more
_FEW, _MOST_KNOWN = 6, 256  # numbers of a launch that are converted each time; remembered lists of more
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
        self._parameters: dict[str, _Parameters] = {}

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
        if not 0 < threads <= _MOST_THREADS or (max(grid) > _LARGEST_GRID[1] and _beyond(grid)):
            raise ShapeError(f"{kernel}: a grid of {grid} blocks of {block} threads is beyond the hardware's limits")
        parameters = self._parameters.get(kernel)
        if parameters is None:
            parameters = self._parameters[kernel] = _Parameters(kernel, self.signatures[kernel])
        values = parameters.values(args)
        make_current(values[0])
        self._function(kernel, values[0].device.id, values[0])(grid, block, values)

    def launch_together(self, kernel: str, blocks: int, threads: int, shared: int, *args: Any) -> None:
        """Runs `kernel` with all its blocks at once, so that they may wait for each other, and `shared` bytes of dynamic shared memory.

        args as in `launch`. The launch is cooperative: the driver refuses it if the GPU has no room for all blocks. The module is compiled
        as any other: CuPy's enable_cooperative_groups would also link the device's runtime library, which many installations lack and only
        the barrier of cooperative_groups.h needs.
        Raises ShapeError for arguments that the kernel's declaration does not allow.
        """
        if kernel not in self._parameters:
            self._parameters[kernel] = _Parameters(kernel, self.signatures[kernel])
        values = self._parameters[kernel].values(args)
        make_current(values[0])
        function = self._function(kernel, values[0].device.id, values[0])
        if shared > _SHARED_BY_DEFAULT:
            function.max_dynamic_shared_size_bytes = shared
        function.kernel((blocks,), (threads,), values, shared, enable_cooperative_groups=True)

    def _function(self, kernel: str, device: int, array: Array) -> Any:
        found = self._functions.get((kernel, device))
        if found is None:
            if device not in self._modules:
                self._modules[device] = array_module(array).RawModule(code=source(self.name), options=OPTIONS)
            found = self._functions[kernel, device] = self._modules[device].get_function(kernel)
        return found


class _Parameters:
    """What a kernel's parameters take, so that its arguments are prepared in little time."""

    def __init__(self, kernel: str, types: Sequence[tuple[np.dtype[Any], bool]]) -> None:
        self._kernel, self._count = kernel, len(types)
        self._pointers = [(i, dtype) for i, (dtype, pointer) in enumerate(types) if pointer]
        self._numbers = [(i, dtype.type) for i, (dtype, pointer) in enumerate(types) if not pointer]
        places = [i for i, _ in self._numbers]
        self._given = operator.itemgetter(*places) if len(places) > _FEW else None
        self._known: dict[Any, list[Any]] = {}  # of kernels with many numbers, which a model gives again and again

    def values(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Returns the arguments as CuPy takes them. Raises ShapeError for one that does not fit, OverflowError for such a number."""
        if len(args) != self._count:
            raise ShapeError(f"{self._kernel}: {len(args)} arguments for {self._count} parameters")
        values = list(args)
        for i, dtype in self._pointers:
            value = args[i]
            if value is None:
                values[i] = _NULL
            elif type(value) is Strided:
                values[i] = self._checked(i, value.array, dtype, True)
            elif value.dtype is not dtype or not value.flags.c_contiguous:
                self._checked(i, value, dtype, False)
        for (i, _), number in zip(self._numbers, self._converted(args), strict=True):
            values[i] = number
        return tuple(values)

    def _converted(self, args: tuple[Any, ...]) -> list[Any]:
        if self._given is None:
            return [kind(args[i]) for i, kind in self._numbers]
        given = self._given(args)
        found = self._known.get(given)
        if found is None:
            if len(self._known) == _MOST_KNOWN:
                self._known.clear()
            found = self._known[given] = [kind(args[i]) for i, kind in self._numbers]
        return found

    def _checked(self, index: int, value: Array, dtype: np.dtype[Any], any_layout: bool) -> Array:
        if value.dtype != dtype or not (any_layout or value.flags.c_contiguous):
            found = f"dtype {value.dtype} and strides {value.strides}"
            raise ShapeError(f"{self._kernel}: argument {index} has {found}, expected contiguous {dtype}")
        return value


def _beyond(grid: tuple[int, ...]) -> bool:
    return any(n > most for n, most in zip(grid, _LARGEST_GRID, strict=False))


def contiguous(x: Array, dtype: Any = None) -> Array:
    """Returns x in C order (and in dtype): x itself if it is already."""
    if x.flags.c_contiguous and (dtype is None or x.dtype == dtype):
        return x
    return array_module(x).asarray(x, dtype, order="C")


def row_threads(columns: int) -> int:
    """Returns the number of threads of a block that serves one row: whole warps, about four columns per thread."""
    return min(max(-(-columns // 128), 1), 16) * 32
