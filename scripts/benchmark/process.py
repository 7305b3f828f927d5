"""Measures one side of a workload in this process, which benchmark/rounds.py starts; prints the result as a line of JSON."""

import dataclasses
import importlib
import itertools
import json
import math
import statistics
import sys
import time
from collections.abc import Callable

from benchmark.sides import SIDES
from benchmark.workloads import Side, Workload


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What one process measured. seconds: median time of a step; import_seconds: of the library, NumPy's own excluded; load_seconds: what
    making or loading the model took; text: the tokens generated from stored weights."""

    seconds: float
    megabytes: float
    import_seconds: float
    load_seconds: float = 0.0
    text: list[int] | None = None


def measure_here(side: str, work: Workload, device: str) -> Measurement:
    """Imports the side's library, makes the workload's steps and returns what they took. Raises ArithmeticError if the last step's loss is
    not finite: NaN can be computed at another speed. That is asked on a CPU only: on a GPU nothing waits for a loss."""
    way = SIDES[side]
    start = time.perf_counter()
    importlib.import_module(way.library)
    import_seconds = time.perf_counter() - start
    make = maker(side)
    start = time.perf_counter()
    built = make(work, device)
    load_seconds = time.perf_counter() - start
    marks, result = [built.mark()], None
    for rows in work.batches(work.steps):
        result = built.step(rows)
        marks.append(built.mark())
    times = [built.seconds(a, b) for a, b in itertools.pairwise(marks)]
    seconds = statistics.median(times[work.steps // 4 :])  # the first ones compile kernels and fill caches
    if device == "cpu" and not work.prompt and not math.isfinite(result.item()):
        raise ArithmeticError(f"the loss of the last step is {result.item()}")
    return Measurement(seconds, built.megabytes(), import_seconds, load_seconds, result if way.numbers == "stored" else None)


def maker(side: str) -> Callable[[Workload, str], Side]:
    """Returns the function that builds a side of a workload. Each library is imported only where it is measured."""
    way = SIDES[side]
    if way.library == "llama_cpp":
        from benchmark.llama_side import file_and_threads, llama_cpp_side

        path, threads = file_and_threads()
        return lambda work, _: llama_cpp_side(work, path, threads)
    if way.library == "tinylm":
        from benchmark.tinylm_side import stored_side, tinylm_side

        return (lambda work, _: stored_side(work)) if way.numbers == "stored" else (lambda *given: tinylm_side(*given, way.numbers))
    from benchmark.torch_side import torch_side

    return lambda work, device: torch_side(work, device, way.compiled, way.numbers == "bfloat16")


if __name__ == "__main__":
    name, on, shape = sys.argv[1:]
    print(json.dumps(dataclasses.asdict(measure_here(name, Workload(**json.loads(shape)), on))))
