"""Matrix products."""

from tinylm.engine.arrays import array_module, constant, of_one_dtype, promoted, sum_to
from tinylm.engine.op import op
from tinylm.engine.products import matmul_now
from tinylm.errors import ConfigError, ShapeError
from tinylm.ops.activations import ACTIVATIONS, identity
from tinylm.ops.shapes import as_rows


@op
def matmul(a, b, /):
    """Y = A B over the last two axes, the others broadcast.  dA = dY Bᵀ, dB = Aᵀ dY.

    a (..., n, k), b (..., k, m) -> (..., n, m); a vector (k,) counts as a row on the left and as
    a column on the right, as in NumPy.

    >>> tinylm.matmul(np.eye(2), np.array([3.0, 4.0]))
    Tensor([3., 4.], dtype=float64)
    """
    a, b = promoted(a, b)
    xp = array_module(a, b)
    product = matmul_now(xp)

    def vjp(dy):
        left = xp.expand_dims(a, 0) if a.ndim == 1 else a
        right = xp.expand_dims(b, 1) if b.ndim == 1 else b
        if b.ndim == 1:
            dy = xp.expand_dims(dy, -1)
        if a.ndim == 1:
            dy = xp.expand_dims(dy, -2)
        da = sum_to(product(dy, xp.swapaxes(right, -1, -2)), left.shape)
        db = sum_to(product(xp.swapaxes(left, -1, -2), dy), right.shape)
        return xp.reshape(da, a.shape), xp.reshape(db, b.shape)

    return product(a, b), vjp


@op
def linear(x, weight, bias=None, residual=None, /, *, activation=None, frozen=False):
    """Y = act(X Wᵀ + b) + residual.

    x (..., in), weight (out, in), bias (out,), residual (..., out) -> (..., out); activation:
    None, 'relu', 'gelu', 'silu' or 'sigmoid'.  With dZ = dY act'(Z):
    dX = dZ W,  dW = dZᵀ X,  db = Σ dZ,  dresidual = dY.
    frozen: weight and bias are constants, and the product for dW is not computed.
    Raises ShapeError for shapes that do not fit, or if one floating array is float64 and another is not.
    """
    if activation is not None and activation not in ACTIVATIONS:
        raise ConfigError(f"linear: activation {activation!r}: expected None or one of {', '.join(ACTIVATIONS)}")
    if weight.ndim != 2 or x.shape[-1:] != weight.shape[1:]:
        expected = f"its last axis should be {weight.shape[1]}" if weight.ndim == 2 else "expected two axes of the weight"
        raise ShapeError(f"linear: x has shape {x.shape}, {expected} for a weight of {weight.shape}")
    x, weight, bias, residual = of_one_dtype("linear", x=x, weight=weight, bias=bias, residual=residual)
    xp = array_module(x, weight, bias, residual)
    product = matmul_now(xp)
    if frozen:
        weight, bias = constant(weight), None if bias is None else constant(bias)
    rows = as_rows(x, weight.shape[1])
    z = product(rows, xp.transpose(weight))
    if bias is not None:
        z += bias
    y, activation_vjp = ACTIVATIONS.get(activation, identity).op.body(z)
    y = xp.reshape(y, (*x.shape[:-1], weight.shape[0]))
    if residual is not None:
        y = y + residual

    def vjp(dy):
        (dz,) = activation_vjp(as_rows(dy, weight.shape[0]))
        dx = xp.reshape(product(dz, weight), x.shape)
        dweight = None if frozen else product(xp.transpose(dz), rows)
        dbias = None if bias is None or frozen else xp.sum(dz, axis=0)
        return dx, dweight, dbias, None if residual is None else sum_to(dy, residual.shape)

    return y, vjp
