"""The operands of matrix products, rounded to bfloat16 under `products("bfloat16")`.

The product itself is CuPy's of float32 arrays. Where CUPY_TF32=1 lets cuBLAS round operands to TF32, which has the exponent and more
digits than a bfloat16, rounded operands stay as they are: tensor cores then compute the same products.
"""

from collections.abc import Callable

from tinylm.bindings.cuda.launching import CudaSource
from tinylm.engine.arrays import Array, array_module
from tinylm.engine.products import products_mode

_ROUNDING = CudaSource("round_to_bfloat16")
_THREADS = (256,)


def operand_now() -> Callable[[Array], Array]:
    """Returns what makes an array an operand of the products of a forward pass and its vjp: rounds it, or returns it as it is."""
    return rounded if products_mode.rounded else lambda x: x


def rounded(x: Array) -> Array:
    """Returns a float32 array rounded, in x's memory order if that is C's or Fortran's."""
    if not x.flags.c_contiguous and x.flags.f_contiguous:
        return rounded(x.T).T
    xp = array_module(x)
    x = xp.ascontiguousarray(x)
    y = xp.empty_like(x)
    _ROUNDING.launch("round_to_bfloat16", (-(-x.size // _THREADS[0]),), _THREADS, x, y, x.size)
    return y
