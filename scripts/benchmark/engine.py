"""Measures the engine's own cost: what recording an op adds to NumPy, and what the import takes."""

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import tinylm
from tinylm.optim.optimizer import squared_norm


def microseconds(run: Callable[[], Any], repeats: int, inner: int) -> float:
    """Returns the best of `repeats` timings of one call, in µs."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(inner):
            run()
        best = min(best, time.perf_counter() - start)
    return best / inner * 1e6


def engine_costs(dry_run: bool) -> dict[str, float]:
    """Returns what recording an op adds to the NumPy call, and what its backward pass takes, on arrays of 4 numbers, in µs."""
    x = tinylm.Tensor(np.ones(4, np.float32), requires_grad=True)
    c, raw = tinylm.Tensor(np.ones(4, np.float32)), x.data
    repeats, inner = (1, 100) if dry_run else (20, 20_000)
    plain = microseconds(lambda: raw + raw, repeats, inner)
    record = microseconds(lambda: x + c, repeats, inner) - plain

    def chain() -> tinylm.Tensor:
        y = x
        for _ in range(inner):
            y = y + c
        return y

    best = float("inf")
    for _ in range(3):
        y = chain()
        start = time.perf_counter()
        y.backward(raw)
        best = min(best, (time.perf_counter() - start) / inner * 1e6)
    return {"NumPy's a + b": plain, "recording a + b, above NumPy's": record, "its backward, per op of a chain": best}


def read_bandwidth(dry_run: bool) -> float:
    """Returns the GB/s at which all threads together read memory: the best of several sums of squares of an array larger than any cache.

    A generated token takes at least one reading of the weights: 0.54 GB for SmolLM2-135M in float32.
    """
    values, total = np.ones(1_000_000 if dry_run else 100_000_000, np.float32), np.zeros((), np.float32)
    best = min(microseconds(lambda: squared_norm(values, total), 1, 1) for _ in range(2 if dry_run else 20))
    return values.nbytes / best / 1e3


def import_seconds() -> float:
    """Returns what `import tinylm` adds to `import numpy`, in seconds: the best of several fresh processes."""

    def once() -> float:
        program = "import numpy, time; t = time.perf_counter(); import tinylm; print(time.perf_counter() - t)"
        return float(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)

    return min(once() for _ in range(5))
