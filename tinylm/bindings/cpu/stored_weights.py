"""Weights as the kernels take them: a pointer and the number of a format."""

from typing import Any

from tinylm.bindings.cpu.library import Strided, contiguous, library
from tinylm.engine.arrays import Array
from tinylm.engine.kernels import kernels_on
from tinylm.engine.stored_weights import StoredWeights

FORMATS = {"F16": 1, "BF16": 2, "Q4_0": 3, "Q4_1": 4, "Q8_0": 5, "Q4_K": 6, "Q6_K": 7}  # as in kernels/cpu/stored_weights.h; 0: float32


def reads(format: str) -> bool:
    """Returns whether the kernels take a weight of this format: they must be switched on and compiled."""
    return format in FORMATS and kernels_on() and library() is not None


def weight(x: Array | None) -> tuple[Any, int]:
    """Returns what `call` takes for a weight, None for a missing one, and the number of its format."""
    if x is None:
        return None, 0
    if type(x) is StoredWeights and x.format in FORMATS:
        return x, FORMATS[x.format]
    return Strided(contiguous(x)), 0
