"""Times matrix products with one library in this process, which benchmark/product_rates.py starts; prints the result as a line of JSON."""

import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmark.products import Product
from tinylm.bindings.cpu.cores import thread_count
from tinylm.bindings.cpu.linear import multiplied

LEAST_CALLS = 5
MEMORY = 400 << 20  # bytes of weights that no cache holds


@dataclasses.dataclass(frozen=True)
class Timing:
    """seconds: the median time of a product whose operands were used just before. from_memory: for a product of few rows, the same with
    weights that no cache holds any more, else None."""

    seconds: float
    from_memory: float | None = None


def multiplier(side: str, precision: str) -> tuple[Callable[[Any, Any], Any], Callable[[np.ndarray], Any]]:
    """Returns a function that multiplies two matrices, with as many threads as tinylm has, and one that makes its operands of
    arrays. In bfloat16 tinylm's product rounds its operands itself, and PyTorch's have been rounded before, since autocast keeps them.
    Each library is imported only where it is measured."""
    rounded = precision == "bfloat16"
    if side == "tinylm":
        return lambda a, b: multiplied(a, b, rounded), lambda array: array
    import torch

    torch.set_num_threads(thread_count())
    return torch.mm, lambda array: torch.from_numpy(array).to(torch.bfloat16 if rounded else torch.float32)


def median_seconds(run: Callable[[], Any], budget: float, clock: Callable[[], float] = time.perf_counter) -> float:
    """Returns the median time of a call: after one that is not timed, of all in `budget` seconds, and of at least LEAST_CALLS."""
    run()
    times: list[float] = []
    end = clock() + budget
    while len(times) < LEAST_CALLS or clock() < end:
        start = clock()
        run()
        times.append(clock() - start)
    return statistics.median(times)


def operands(product: Product, store: np.ndarray, copies: int = 1) -> tuple[np.ndarray, list[np.ndarray]]:
    """Returns A and `copies` different B for a product: views of `store`, laid out as the product says."""

    def matrix(rows: int, columns: int, transposed: bool, start: int) -> np.ndarray:
        flat = store[start : start + rows * columns]
        return flat.reshape(columns, rows).T if transposed else flat.reshape(rows, columns)

    size = product.k * product.n
    a = matrix(product.m, product.k, product.a_transposed, 0).copy("K")  # "K": in the same layout
    return a, [matrix(product.k, product.n, product.b_transposed, i * size) for i in range(copies)]


def timed(product: Product, side: str, precision: str, store: np.ndarray, memory: int, budget: float) -> Timing:
    """Returns the timing of a product. memory: how many bytes of weights to go through in turn, to read them from memory."""
    multiply, prepared = multiplier(side, precision)
    copies = max(2, memory // product.weight_bytes) if product.reads_weights else 1
    a, every = operands(product, store, copies)
    x, weights = prepared(a), [prepared(b) for b in every]
    seconds = median_seconds(lambda: multiply(x, weights[0]), budget)
    if not product.reads_weights:
        return Timing(seconds)

    def all_weights() -> None:
        for w in weights:
            multiply(x, w)

    return Timing(seconds, median_seconds(all_weights, budget) / len(weights))


def timings(side: str, precision: str, products: Sequence[Product], memory: int, budget: float) -> list[Timing]:
    """Returns the timings of all products. `memory` and `budget` as in `timed`."""
    sizes = [max(p.m * p.k, 2 * p.n * p.k) for p in products]
    wanted = memory // 4 if any(p.reads_weights for p in products) else 0
    block = np.random.default_rng(0).standard_normal(1 << 20).astype(np.float32)
    store = np.resize(block, max(*sizes, wanted))
    return [timed(p, side, precision, store, memory, budget) for p in products]


if __name__ == "__main__":
    name, numbers, dry_run, listed = sys.argv[1:]
    settings = (1 << 20, 0.0) if dry_run == "dry-run" else (MEMORY, 0.06)
    found = timings(name, numbers, [Product(**p) for p in json.loads(listed)], *settings)
    print(json.dumps([dataclasses.asdict(t) for t in found]))
