"""cupy.RawModule and its functions, which run kernels in the emulator."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..emulator import Kernel, Module
from .api import check_call, missing
from .arrays import ndarray
from .queue import queue, queued


class RawKernel:
    """A kernel of a RawModule."""

    def __init__(self, name: str, compiled: Callable[[str], Kernel]) -> None:
        self.name, self._compiled = name, compiled
        self._kernel = compiled(name) if queue.computing else None

    def __call__(self, grid: Any, block: Any, args: Any, *, shared_mem: int = 0) -> None:
        self.kernel(grid, block, args, shared_mem)

    @property
    def kernel(self) -> "Function":
        return Function(self)

    def run(self, grid: Any, block: Any, args: Any, shared_mem: int, cooperative: bool) -> None:
        """Called by Function: counts the launch, and runs it unless launches are only counted."""
        if not all(isinstance(x, tuple) for x in (grid, block, args)):
            raise TypeError(f"{self.name}: grid, block and args must be tuples")
        for i, a in enumerate(args):
            if isinstance(a, np.ndarray):
                raise TypeError(f"{self.name}: argument {i} is a numpy.ndarray of shape {a.shape}, which is on the host")
        queued(self.name)
        if queue.computing:
            given = tuple(a._raw if isinstance(a, ndarray) else a for a in args)
            self._emulated()(grid, block, given, shared_mem=shared_mem, cooperative=cooperative)

    def _emulated(self) -> Kernel:
        if self._kernel is None:  # it was asked for where launches are only counted
            self._kernel = self._compiled(self.name)
        return self._kernel

    @property
    def max_dynamic_shared_size_bytes(self) -> int:
        return self._emulated().max_dynamic_shared_size_bytes

    @max_dynamic_shared_size_bytes.setter
    def max_dynamic_shared_size_bytes(self, value: int) -> None:
        self._emulated().max_dynamic_shared_size_bytes = value

    @property
    def attributes(self) -> dict[str, int]:
        """Returns what a GPU would need for the kernel, which nobody knows here: nothing."""
        used = dict.fromkeys(("num_regs", "shared_size_bytes", "local_size_bytes", "const_size_bytes"), 0)
        return {**used, "max_threads_per_block": 1024, "binary_version": 75}

    def __getattr__(self, name: str) -> Any:
        raise missing("cupy.RawKernel", name)


class Function:
    """cupy.cuda.function.Function, which RawKernel.kernel gives: it alone says whether a launch is cooperative where the module was not
    compiled for cooperative groups."""

    def __init__(self, kernel: RawKernel) -> None:
        self._kernel = kernel

    def __call__(
        self, grid: Any, block: Any, args: Any, shared_mem: int = 0, stream: None = None, enable_cooperative_groups: bool = False
    ) -> None:
        self._kernel.run(grid, block, args, shared_mem, enable_cooperative_groups)


class RawModule:
    """cupy.RawModule, made from the text of a kernel file."""

    def __init__(self, *, code: str, options: tuple[str, ...] = (), backend: str = "nvrtc", name_expressions: Any = None) -> None:
        if not isinstance(options, tuple) or backend != "nvrtc" or name_expressions is not None:
            raise TypeError("the stand-in's RawModule takes a tuple of options, the backend 'nvrtc' and no name_expressions")
        self._module = Module(code, options)

    def get_function(self, name: str) -> RawKernel:
        check_call("cupy.RawModule", "get_function", (self, name), {})
        return RawKernel(name, self._module.get_function)

    def __getattr__(self, name: str) -> Any:
        raise missing("cupy.RawModule", name)
