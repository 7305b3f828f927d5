"""Linear layers: the product is computed by cuBLAS, what follows it in one kernel; all of it in one for few rows, as in decoding."""

import math
from collections.abc import Sequence

from tinylm.bindings.activation_numbers import LINEAR_ACTIVATIONS
from tinylm.bindings.cuda.launching import CudaSource, contiguous, row_threads
from tinylm.bindings.cuda.reductions import column_sums
from tinylm.bindings.cuda.rounding import operand_now
from tinylm.engine.arrays import Array, array_module
from tinylm.engine.gradient_places import buffer_for
from tinylm.engine.kernels import kernel

_LINEAR = CudaSource("linear")
_FEW_ROWS, _FEW_THREADS = 4, (128,)  # FEW_ROWS of the kernel; four outputs per block


def weight_gradient(d: Array, left: Array, weight: Array) -> Array:
    """Returns Dᵀ X, the gradient of the weight of a linear layer with inputs X, in the weight's buffer if that is offered."""
    xp, place = array_module(d), buffer_for(weight)
    return xp.matmul(d.T, left) if place is None else xp.matmul(d.T, left, out=place)


def products_of_few_rows(x: Array, weights: Sequence[Array], biases: Sequence[Array | None]) -> list[Array] | None:
    """Returns X Wᵀ + b for up to three layers of the same matrix X, in one launch; None if X has too many rows, or none."""
    rows, inputs = x.shape
    if not 0 < rows <= _FEW_ROWS:
        return None
    xp, missing = array_module(x), [None] * (3 - len(weights))
    found = [xp.empty((rows, w.shape[0]), x.dtype) for w in weights]
    sizes = [*(w.shape[0] for w in weights), *(0 for _ in missing)]
    arrays = [*map(contiguous, weights), *missing, *(None if b is None else contiguous(b) for b in biases), *missing, *found, *missing]
    _LINEAR.launch("linear_few_rows_joint", (_few_blocks(sum(sizes)),), _FEW_THREADS, x, *arrays, *sizes, rows, inputs)
    return found


def _few_blocks(outputs: int) -> int:
    return -(-outputs // (_FEW_THREADS[0] // 32))


@kernel("linear", device="cuda", floats_only=True)
def linear(x, weight, bias=None, residual=None, /, *, activation=None, frozen=False):
    if activation not in LINEAR_ACTIVATIONS or x.ndim == 0 or weight.ndim != 2 or x.shape[-1] != weight.shape[1]:
        return NotImplemented
    shape, outputs = (*x.shape[:-1], weight.shape[0]), weight.shape[0]
    if bias is not None and bias.shape != (outputs,):
        return NotImplemented
    if residual is not None and residual.shape != shape:
        return NotImplemented
    xp = array_module(x)
    inputs = contiguous(x).reshape(math.prod(x.shape[:-1]), x.shape[-1])
    operand = operand_now()
    left, right = operand(inputs), operand(weight)
    rows, number = inputs.shape[0], LINEAR_ACTIVATIONS[activation]
    grid, block = (rows,), (row_threads(outputs),)
    bias_, residual_ = (None if a is None else contiguous(a) for a in (bias, residual))
    few = 0 < rows <= _FEW_ROWS
    z = xp.empty((rows, outputs), x.dtype) if few else xp.matmul(left, right.T)
    y = z if activation is None else xp.empty_like(z)
    if few:
        arrays = left, contiguous(right), bias_, residual_, None if activation is None else z, y
        _LINEAR.launch("linear_few_rows", (_few_blocks(outputs),), _FEW_THREADS, *arrays, rows, inputs.shape[1], outputs, number)
    elif any(a is not None for a in (bias, residual, activation)):
        _LINEAR.launch("linear_epilogue", grid, block, z, bias_, residual_, y, outputs, number)

    def vjp(dy):
        dz = contiguous(dy, z.dtype).reshape(z.shape)
        if activation is not None:
            d = xp.empty_like(z)
            _LINEAR.launch("linear_activation_backward", grid, block, z, dz, d, outputs, number)
            dz = d
        d = operand(dz)
        dx = xp.matmul(d, right).reshape(x.shape)
        dweight = None if frozen else weight_gradient(d, left, weight)
        dbias = None if bias is None or frozen else column_sums(dz, buffer_for(bias))
        return dx, dweight, dbias, None if residual is None else dy

    return y.reshape(shape), vjp
