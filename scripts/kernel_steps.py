"""Compiles, checks and times the C steps from plain to fast in kernels/README.md."""

import ctypes
import re
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from support import console

from tinylm.bindings.cpu import compiling
from tinylm.bindings.cpu.cores import thread_count
from tinylm.bindings.cpu.processor import processor_name
from tinylm.errors import ConfigError

Step = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Arguments:
    """Compiles the C steps of kernels/README.md, compares each with softmax in float64, and prints its time and error."""

    rows: int = 3072
    """rows of the matrix"""
    columns: int = 256
    """columns of the matrix: the softmax is over each row"""
    repeats: int = 100
    """how often each step is run, in turn; the fastest run counts"""
    threads: int | None = None
    """threads of the steps that use the pool; by default as many as the kernels use"""
    dry_run: bool = False
    """a few small rows, once"""


def steps(folder: Path, threads: int) -> dict[str, Step]:
    """Returns the steps by name, compiled in `folder` with the flags of all CPU kernels. Raises ConfigError without a compiler."""
    page = (compiling.folder().parent / "README.md").read_text(encoding="utf-8")
    source, built = folder / "steps.c", folder / "steps.so"
    source.write_text("".join(re.findall(r"^```c step\n(.*?)^```$", page, re.M | re.S)), encoding="utf-8")
    try:
        command = compiling.compiler()
    except compiling.BuildError as error:
        raise ConfigError(str(error)) from error
    files = [str(source), str(compiling.folder() / "pool.c")]
    subprocess.run([*command, *compiling.flags(), f"-I{compiling.folder()}", "-shared", *files, "-o", str(built), "-lm"], check=True)
    library = ctypes.CDLL(str(built))
    library.pool_size(threads)
    names = re.findall(r"^EXPORT int (\w+)", source.read_text(encoding="utf-8"), re.M)
    return {name: _callable(getattr(library, name)) for name in names}


def _callable(function: Callable[..., int]) -> Step:
    def step(x: np.ndarray) -> np.ndarray:
        y = np.empty_like(x)
        function(*map(ctypes.c_int64, x.shape), *(a.ctypes.data_as(ctypes.c_void_p) for a in (x, y)))
        return y

    return step


def softmax(x: np.ndarray) -> np.ndarray:
    """Returns the softmax of each row in float64."""
    e = np.exp(x.astype(np.float64) - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def milliseconds(found: dict[str, Step], x: np.ndarray, repeats: int) -> dict[str, float]:
    """Returns the time of the fastest of `repeats` runs of each step; the steps take turns."""
    best = dict.fromkeys(found, float("inf"))
    for _ in range(repeats):
        for name, step in found.items():
            begin = time.perf_counter()
            step(x)
            best[name] = min(best[name], (time.perf_counter() - begin) * 1e3)
    return best


def main() -> None:
    a = console.parse(Arguments)
    for name in ("rows", "columns", "repeats"):
        if getattr(a, name) < 1:
            raise ConfigError(f"{name} is {getattr(a, name)}: expected at least 1")
    if a.threads is not None and a.threads < 1:
        raise ConfigError(f"threads is {a.threads}: expected at least 1")
    rows, columns, repeats = (5, 37, 1) if a.dry_run else (a.rows, a.columns, a.repeats)
    threads = a.threads or thread_count()
    x = (np.random.default_rng(0).standard_normal((rows, columns)) * 4).astype(np.float32)
    expected = softmax(x)
    with tempfile.TemporaryDirectory(prefix="tinylm-") as folder:
        found = steps(Path(folder), threads)
        errors = {name: np.abs(step(x) / expected - 1).max() for name, step in found.items()}
        times = milliseconds(found, x, repeats)
    first = next(iter(times.values()))
    print(f"softmax of {rows} rows of {columns} columns, {threads} threads in the pool, the fastest of {repeats}; {processor_name()}")
    print("| step | ms | times as fast as the first | largest relative error |\n| --- | --- | --- | --- |")
    for name, took in times.items():
        print(f"| {name} | {took:.3f} | {first / took:.1f} | {errors[name]:.1e} |")


if __name__ == "__main__":
    console.run(main)
