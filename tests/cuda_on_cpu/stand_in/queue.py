"""What CuPy would queue on a GPU, counted: kernels, products, copies, and its own small launches."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

VIEWS = frozenset((  # they launch nothing, unless the layout makes them copy
    "broadcast_to", "expand_dims", "flip", "moveaxis", "ravel", "reshape", "split", "squeeze", "swapaxes", "transpose", "view",
))  # fmt: skip
ON_THE_HOST = frozenset(("can_cast", "result_type"))


class _Queue:
    counts: Counter[str] | None = None  # None: nobody counts
    computing = True  # whether kernels and products are computed


queue = _Queue()


def queued(name: str) -> None:
    """Counts one launch, copy or product."""
    if queue.counts is not None:
        queue.counts[name] += 1


def queued_call(name: str, result: Any, args: Any) -> None:
    """Counts the call of a function or method on NumPy arrays, as CuPy's launches nothing for a view of an argument."""
    if queue.counts is None or name in ON_THE_HOST or (name == "astype" and result is args[0]):
        return
    results = result if isinstance(result, (list, tuple)) else [result]
    if name in VIEWS and all(not r.size or np.may_share_memory(r, args[0]) for r in results):
        return
    queue.counts[name] += 1


@contextlib.contextmanager
def counting(computing: bool = True) -> Iterator[Counter[str]]:
    """Within it, what CuPy would queue is counted by name. If not `computing`, tinylm's kernels do not run and products are zeros: their
    number does not depend on values."""
    before = queue.counts, queue.computing
    queue.counts, queue.computing = Counter(), computing
    try:
        yield queue.counts
    finally:
        queue.counts, queue.computing = before
