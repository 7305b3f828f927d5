"""Linear layers: the product is computed by cuBLAS, what follows it in one kernel."""

import math

from tinylm.bindings.activation_numbers import LINEAR_ACTIVATIONS
from tinylm.bindings.cuda.launching import CudaSource, contiguous, row_threads
from tinylm.bindings.cuda.reductions import column_sums
from tinylm.bindings.cuda.rounding import operand_now
from tinylm.engine.arrays import Array, array_module
from tinylm.engine.gradient_places import buffer_for
from tinylm.engine.kernels import kernel

_LINEAR = CudaSource("linear")


def weight_gradient(d: Array, left: Array, weight: Array) -> Array:
    """Returns Dᵀ X, the gradient of the weight of a linear layer with inputs X, in the weight's buffer if that is offered."""
    xp, place = array_module(d), buffer_for(weight)
    return xp.matmul(d.T, left) if place is None else xp.matmul(d.T, left, out=place)


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
    z = xp.matmul(left, right.T)
    y = z if activation is None else xp.empty_like(z)
    grid, block, number = (z.shape[0],), (row_threads(outputs),), LINEAR_ACTIVATIONS[activation]
    bias_, residual_ = (None if a is None else contiguous(a) for a in (bias, residual))
    if any(a is not None for a in (bias, residual, activation)):
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
