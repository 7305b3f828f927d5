"""The precision of matrix products: `products("bfloat16")` rounds their operands; everything else stays as it is.

A bfloat16 is a float32 without its last 16 bits: the same exponent, and 8 significant bits instead of 24.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

from tinylm.engine.arrays import Array, array_module
from tinylm.errors import ConfigError

PRECISIONS = ("float32", "bfloat16")


class _Precision(threading.local):
    rounded = False  # of each thread: whether products round float32 operands to bfloat16


_precision = _Precision()


@contextlib.contextmanager
def products(precision: str) -> Iterator[None]:
    """Within it, the matrix products of this thread round their float32 operands to `precision`, "float32" or "bfloat16", to nearest
    even, and add up in float32; float64 operands are never rounded. It holds for matmul, linear layers, attention and
    recurrent layers, and a backward pass has the precision of its forward pass. Micikevicius et al. 2018, arXiv:1710.03740, and Kalamkar
    et al. 2019, arXiv:1905.12322. Raises ConfigError for another precision.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"products of precision {precision!r}: expected one of {', '.join(PRECISIONS)}")
    before, _precision.rounded = _precision.rounded, precision == "bfloat16"
    try:
        yield
    finally:
        _precision.rounded = before


def products_rounded() -> bool:
    """Returns whether this thread's products round float32 operands to bfloat16 now."""
    return _precision.rounded


def to_bfloat16(x: Array) -> Array:
    """Returns a float32 array rounded to the nearest bfloat16, ties to even, again as float32; float64 arrays as they are. NaN and
    infinity stay; beyond the largest bfloat16, 3.39e38, a number rounds to infinity."""
    if x.dtype != "float32":
        return x
    xp = array_module(x)
    bits = xp.ascontiguousarray(x).view("uint32")
    up = bits + (0x7FFF + ((bits >> 16) & 1)).astype("uint32")
    return xp.where(xp.isnan(x), x, (up & xp.asarray(0xFFFF0000, "uint32")).view("float32").reshape(x.shape))


def matmul_now(xp: Any) -> Callable[..., Any]:
    """Returns xp.matmul with the precision that this thread's products have now, for a body and its vjp."""
    if not _precision.rounded:
        return xp.matmul

    def rounded_matmul(a: Array, b: Array, **settings: Any) -> Array:
        return xp.matmul(to_bfloat16(a), to_bfloat16(b), **settings)

    return rounded_matmul
