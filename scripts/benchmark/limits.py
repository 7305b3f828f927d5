"""Measures what this machine's cores can do at most: multiply-adds in registers, and reading from their second cache."""

import ctypes
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.engine import microseconds
from tinylm.bindings.cpu import compiling
from tinylm.bindings.cpu.cores import thread_count
from tinylm.bindings.cpu.processor import cache_sizes
from tinylm.errors import ConfigError


class Limits:
    """The functions of limits.c, compiled as the kernels are. Raises ConfigError without a compiler."""

    def __init__(self) -> None:
        self.threads = thread_count()
        self._out = np.zeros(16 * self.threads, np.float32)
        source = Path(__file__).with_name("limits.c")
        with tempfile.TemporaryDirectory(prefix="tinylm-") as folder:
            built = Path(folder) / "limits.so"
            files = [str(source), str(compiling.folder() / "pool.c"), f"-I{compiling.folder()}"]
            try:
                subprocess.run([*compiling.compiler(), *compiling.flags(), *files, "-shared", "-o", str(built)], check=True)
            except (compiling.BuildError, subprocess.CalledProcessError) as error:
                raise ConfigError(f"what measures the processor's limits cannot be compiled: {error}") from error
            self._library = ctypes.CDLL(str(built))  # once it is loaded, its file may go
        self._library.pool_size(self.threads)

    def gigaflops(self, dry_run: bool = False) -> float:
        """Returns the GFLOP/s of all threads together, each with as many independent sums in registers as hide the time of one
        multiply-add: the best of many runs of less than a millisecond. There is no access to memory, so no product of the same
        instructions can be faster."""
        values, done = np.array([0.5, 1.0], np.float32), ctypes.c_int64()
        repeats, runs = (100_000, 3 if dry_run else 200)

        def run() -> None:
            self._library.multiply_adds(ctypes.c_int64(repeats), _pointer(values), _pointer(self._out), ctypes.byref(done))

        best = microseconds(run, runs, 1)
        return 2 * done.value / best / 1e3

    def cache_gigabytes(self, dry_run: bool = False) -> float:
        """Returns the GB/s at which all threads together read from their second caches: each adds up half a cache of floats, at most
        1 MB, since cores may share one, again and again; the best of many runs. Without a known size, it is 256 KB."""
        n = min(cache_sizes().get("L2", 512 << 10) // 2, 1 << 20) // 4 // 128 * 128
        values = np.ones(n * self.threads, np.float32)
        repeats, runs = (10, 3 if dry_run else 200)

        def run() -> None:
            self._library.read_again(ctypes.c_int64(n), ctypes.c_int64(repeats), _pointer(values), _pointer(self._out))

        run()
        return values.nbytes * repeats / microseconds(run, runs, 1) / 1e3


def _pointer(a: np.ndarray) -> Any:
    return a.ctypes.data_as(ctypes.c_void_p)
