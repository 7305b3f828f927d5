"""The precision of matrix products: `products("bfloat16")` rounds their operands; everything else stays as it is.

A bfloat16 is a float32 without its last 16 bits: the same exponent, and 8 significant bits instead of 24.
"""

import contextlib
import math
import threading
from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args

from tinylm.engine.array_functions import Array, Namespace
from tinylm.engine.arrays import array_module
from tinylm.errors import ConfigError

Precision = Literal["float32", "bfloat16"]
PRECISIONS = get_args(Precision)


class _Precision(threading.local):
    rounded = False  # of each thread: whether products round float32 operands to bfloat16


products_mode = _Precision()


@contextlib.contextmanager
def products(precision: str) -> Iterator[None]:
    """Within products("bfloat16"), this thread's matrix products round their float32 operands to bfloat16, to nearest even, and add up in
    float32; within products("float32") they round nothing. A product with a float64 operand is never rounded. It holds for matmul,
    einsum, linear layers, attention and recurrent layers. Some processors take numbers below 1.2e-38 for zeros then.
    A backward pass, and whatever is computed again for it, has the precision of its forward pass. The derivative of the rounding itself
    counts as 1. Micikevicius et al. 2018, arXiv:1710.03740, and Kalamkar et al. 2019, arXiv:1905.12322.
    Raises ConfigError for another precision.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"products of precision {precision!r}: expected one of {', '.join(PRECISIONS)}")
    with rounding(precision == "bfloat16"):
        yield


@contextlib.contextmanager
def rounding(rounded: bool) -> Iterator[None]:
    """Within it, this thread's products round float32 operands to bfloat16, or do not."""
    before, products_mode.rounded = products_mode.rounded, rounded
    try:
        yield
    finally:
        products_mode.rounded = before


def to_bfloat16(x: Array) -> Array:
    """Returns a float32 array rounded to the nearest bfloat16, ties to even, again as float32; arrays of other dtypes as they are.
    NaN and infinity stay; beyond the largest bfloat16, 3.39e38, a number rounds to infinity."""
    if x.dtype != "float32":
        return x
    xp = array_module(x)
    bits = xp.ascontiguousarray(x).view("uint32")
    up = bits + (0x7FFF + ((bits >> 16) & 1)).astype("uint32")
    return xp.where(xp.isnan(x), xp.asarray(math.nan, x.dtype), (up & xp.asarray(0xFFFF0000, "uint32")).view("float32").reshape(x.shape))


def matmul_now(xp: Any) -> Callable[..., Any]:
    """Returns xp.matmul with the precision that this thread's products have now, for a body and its vjp."""
    rounded = products_mode.rounded
    if not isinstance(xp, Namespace):  # the body runs again on tensors: their matmul is an op, which rounds by itself

        def tensors_matmul(a: Array, b: Array) -> Array:
            with rounding(rounded):
                return xp.matmul(a, b)

        return tensors_matmul
    if not rounded:
        return xp.matmul

    def rounded_matmul(a: Array, b: Array, **settings: Any) -> Array:
        if a.dtype == b.dtype:  # a product with float64 is one of float64
            a, b = to_bfloat16(a), to_bfloat16(b)
        return xp.matmul(a, b, **settings)

    return rounded_matmul
