"""The emulator behind the interface of `cupy.RawModule`, on NumPy arrays.

It is stricter than CuPy on purpose: every number must be a NumPy scalar of the parameter's exact type
(CuPy passes a Python int as an int64 and a float as a double), every array must have the pointer's
dtype, and a launch must respect the limits of every GPU. Each launch runs in several thread orders
from the same memory and must leave the same bytes in all of them.
"""

import ctypes
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.lib.array_utils import byte_bounds

from .building import build

ORDERS = [0, 1, 2]  # forward, backward, shuffled
MOST_SHARED = 64 * 1024  # bytes per block and per multiprocessor on sm_75, the GPU with the least
MOST_THREADS = 4096  # that the emulator can have in blocks that wait for each other


class Card:
    """The card that is emulated: how many blocks it has room for at a time."""

    multiprocessors: ClassVar[int] = 3
    cooperative: ClassVar[bool] = True

    @classmethod
    def resident(cls, threads: int, shared: int) -> int:
        """Returns how many blocks with so many threads and bytes of shared memory sm_75 runs at a time."""
        return cls.multiprocessors * min(1024 // threads, 16, MOST_SHARED // max(shared, 1))


class LaunchError(RuntimeError):
    """A launch that a GPU would refuse, or that computed something undefined."""


class _Dim3(ctypes.Structure):
    _fields_ = [(c, ctypes.c_uint) for c in "xyz"]


class _Region(ctypes.Structure):
    _fields_ = [("initial", ctypes.c_void_p), ("result", ctypes.c_void_p), ("bytes", ctypes.c_uint64)]


class _Argument(ctypes.Structure):
    _fields_ = [("region", ctypes.c_int64), ("value", ctypes.c_uint64)]


class _Launch(ctypes.Structure):
    _fields_ = [
        ("grid", _Dim3),
        ("block", _Dim3),
        ("shared_bytes", ctypes.c_uint),
        ("order", ctypes.c_int),
        ("resident", ctypes.c_uint),
        ("cooperative", ctypes.c_int),
        ("regions_count", ctypes.c_int),
        ("arguments_count", ctypes.c_int),
        ("regions", ctypes.POINTER(_Region)),
        ("arguments", ctypes.POINTER(_Argument)),
        ("error", ctypes.c_char * 512),
    ]


class _Entry(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("enter", ctypes.c_void_p), ("describe", ctypes.CFUNCTYPE(None, ctypes.c_char_p))]


class Module:
    """The kernels of one file, compiled when one is first asked for, as in CuPy."""

    def __init__(self, code: str, options: Sequence[str] = ()) -> None:
        self.code, self.options = code, tuple(options)
        self.kernels: dict[str, Kernel] | None = None

    def get_function(self, name: str) -> "Kernel":
        if self.kernels is None:
            library = ctypes.CDLL(str(build(self.code, "library", self.options)))
            count = ctypes.c_int.in_dll(library, "cu_kernel_count").value
            entries = (_Entry * count).in_dll(library, "cu_kernels")
            self.kernels = {e.name.decode(): Kernel(self, library, e) for e in entries}
        if name not in self.kernels:
            raise LaunchError(f"the kernel file has no kernel {name!r}, only {', '.join(self.kernels)}")
        return self.kernels[name]


class Kernel:
    """One kernel. If `recorder` is set, it gets every launch."""

    recorder: Any = None
    launches: ClassVar[Counter[str]] = Counter()  # kernel -> how often it ran without an error

    def __init__(self, module: Module, library: Any, entry: _Entry) -> None:
        self.module, self.library, self.entry = module, library, entry
        self.name = entry.name.decode()
        text = ctypes.create_string_buffer(1024)
        entry.describe(text)
        self.parameters = text.value.decode().split(",")[:-1]
        self.max_dynamic_shared_size_bytes = 48 * 1024

    def __call__(
        self, grid: Sequence[int], block: Sequence[int], args: Sequence[Any], *, shared_mem: int = 0, cooperative: bool = False
    ) -> None:
        grid, block = _sizes(grid), _sizes(block)
        self._check_limits(grid, block, shared_mem)
        resident = Card.resident(math.prod(block), shared_mem)
        if cooperative:
            self._check_residency(math.prod(grid), math.prod(block), resident)
        if len(args) != len(self.parameters):
            raise LaunchError(f"{self.name}: {len(args)} arguments for {len(self.parameters)} parameters")
        for i, (a, parameter) in enumerate(zip(args, self.parameters, strict=True)):
            self._check_argument(i, a, parameter)
        regions, arguments = _memory(args)
        initial = [_bytes_at(begin, end) for begin, end in regions]
        results: list[list[np.ndarray]] = []
        for order in ORDERS:
            results.append([np.empty_like(x) for x in initial])
            self._run((grid, block, shared_mem, order, resident, cooperative), initial, results[-1], arguments)
            for i, (a, b) in enumerate(zip(results[0], results[-1], strict=True)):
                if not np.array_equal(a, b):
                    first = next(k for k, argument in enumerate(arguments) if argument[0] == i)
                    raise LaunchError(f"{self.name}: the result depends on the order of the threads (argument {first}, order {order})")
        Kernel.launches[self.name] += 1
        if Kernel.recorder is not None:
            Kernel.recorder.add(self, (*grid, *block, shared_mem, cooperative), initial, results[0], arguments)
        for (begin, end), result in zip(regions, results[0], strict=True):
            ctypes.memmove(begin, result.ctypes.data, end - begin)

    def _check_limits(self, grid: Sequence[int], block: Sequence[int], shared_mem: int) -> None:
        if np.prod(block) > 1024 or block[2] > 64 or grid[0] > 2**31 - 1 or max(grid[1:]) > 65535 or min(*grid, *block) < 1:
            raise LaunchError(f"{self.name}: invalid configuration, grid {tuple(grid)}, block {tuple(block)}")
        if self.max_dynamic_shared_size_bytes > MOST_SHARED:
            raise LaunchError(
                f"{self.name}: {self.max_dynamic_shared_size_bytes} bytes of shared memory per block, sm_75 has {MOST_SHARED}"
            )
        if shared_mem > self.max_dynamic_shared_size_bytes:
            raise LaunchError(f"{self.name}: {shared_mem} bytes of dynamic shared memory need max_dynamic_shared_size_bytes raised")

    def _check_residency(self, blocks: int, threads: int, resident: int) -> None:
        if not Card.cooperative:
            raise LaunchError(f"{self.name}: the card has no cooperative launches")
        if blocks > resident:
            raise LaunchError(
                f"{self.name}: too large for a cooperative launch: {blocks} blocks, the card has room for {resident} at a time"
            )
        if blocks * threads > MOST_THREADS:
            raise LaunchError(f"{self.name}: the emulator has stacks for {MOST_THREADS} threads, {blocks} blocks have {blocks * threads}")

    def _check_argument(self, i: int, a: Any, parameter: str) -> None:
        if parameter[0] != "*":
            if not isinstance(a, np.generic) or a.dtype != np.dtype(parameter):
                raise LaunchError(f"{self.name}, argument {i}: a {np.dtype(parameter)} scalar is expected, got {type(a).__name__}")
        elif isinstance(a, np.uintp) and a == 0:
            pass  # a null pointer, as CuPy takes it
        elif not isinstance(a, np.ndarray) or a.dtype != np.dtype(parameter[1:3]):
            got = f"an array of {a.dtype}" if isinstance(a, np.ndarray) else type(a).__name__
            raise LaunchError(f"{self.name}, argument {i}: an array of {np.dtype(parameter[1:3])} is expected, got {got}")
        elif not parameter.endswith("c") and not a.flags.writeable:
            raise LaunchError(f"{self.name}, argument {i}: the array is a broadcast, and the kernel may write to it")

    def _run(self, how: tuple[Any, ...], initial: Any, result: Any, arguments: Any) -> None:
        grid, block, shared_mem, order, resident, cooperative = how
        regions = (_Region * max(len(initial), 1))(*[(x.ctypes.data, y.ctypes.data, x.size) for x, y in zip(initial, result, strict=True)])
        values = (_Argument * max(len(arguments), 1))(*arguments)
        launch = _Launch(
            _Dim3(*grid), _Dim3(*block), shared_mem, order, resident, cooperative, len(initial), len(arguments), regions, values
        )
        if self.library.cu_run(ctypes.byref(self.entry), ctypes.byref(launch)):
            raise LaunchError(f"{self.name}: {launch.error.decode()} (order {order})")


def _sizes(size: Sequence[int]) -> tuple[int, ...]:
    """Returns three sizes; a grid without blocks becomes one block, as in CuPy."""
    return tuple(max(1, int(n)) for n in (*size, 1, 1)[:3])


def _memory(args: Sequence[Any]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Returns the memory that the arrays cover, overlapping arrays joined to one region, and each argument as (region,
    offset) or (-1, the number's bytes). Regions are in the order of the arguments, so that a launch repeated at other
    addresses is the same and its recorded verdict is found."""
    spans = sorted(byte_bounds(a) for a in args if isinstance(a, np.ndarray) and a.size)
    regions: list[tuple[int, int]] = []
    for begin, end in spans:
        if regions and begin < regions[-1][1]:
            regions[-1] = regions[-1][0], max(end, regions[-1][1])
        else:
            regions.append((begin, end))
    arguments = []
    for a in args:
        if not isinstance(a, np.ndarray):
            arguments.append((-1, int.from_bytes(a.tobytes(), "little")))
        elif not a.size:
            regions.append((0, 0))  # an address that nobody may read
            arguments.append((len(regions) - 1, 0))
        else:
            at = a.ctypes.data
            region = next(i for i, (begin, end) in enumerate(regions) if begin <= at < end)
            arguments.append((region, at - regions[region][0]))
    order = list(dict.fromkeys(region for region, _ in arguments if region >= 0))
    place = {-1: -1, **{region: i for i, region in enumerate(order)}}
    return [regions[region] for region in order], [(place[region], value) for region, value in arguments]


def _bytes_at(begin: int, end: int) -> np.ndarray:
    out = np.empty(end - begin, np.uint8)
    ctypes.memmove(out.ctypes.data, begin, end - begin)
    return out
