"""Measures one side of a workload in this process, which benchmark/rounds.py starts; prints the result as a line of JSON."""

import dataclasses
import importlib
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable

from benchmark.workloads import Side, Workload


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What one process measured. seconds: median time of a step; import_seconds: of the library, NumPy's own excluded."""

    seconds: float
    megabytes: float
    import_seconds: float


def measure_here(side: str, work: Workload, device: str) -> Measurement:
    """Imports the side's library, makes the workload's steps and returns what they took."""
    start = time.perf_counter()
    importlib.import_module("tinylm" if side == "tinylm" else "torch")
    import_seconds = time.perf_counter() - start
    built = maker(side)(work, device)
    marks = [built.mark()]
    for rows in work.batches(work.steps):
        built.step(rows)
        marks.append(built.mark())
    times = [built.seconds(a, b) for a, b in itertools.pairwise(marks)]
    seconds = statistics.median(times[work.steps // 4 :])  # the first ones compile kernels and fill caches
    return Measurement(seconds, built.megabytes(), import_seconds)


def maker(side: str) -> Callable[[Workload, str], Side]:
    """Returns the function that builds a side of a workload. Each library is imported only where it is measured."""
    if side == "tinylm":
        from benchmark.tinylm_side import tinylm_side

        return tinylm_side
    from benchmark.torch_side import torch_side

    return lambda work, device: torch_side(work, device, compiled=side == "compiled")


if __name__ == "__main__":
    name, on, shape = sys.argv[1:]
    print(json.dumps(dataclasses.asdict(measure_here(name, Workload(**json.loads(shape)), on))))
