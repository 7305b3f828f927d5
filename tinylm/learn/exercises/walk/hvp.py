"""hvp: a second derivative without a matrix.

For a loss L(x) of n numbers, the Hessian H_ij = ∂²L/∂x_i ∂x_j is an n × n matrix, too large for any model. Its product with one
vector v is not: the gradient g = ∂L/∂x is a function of x, gᵀv is one number, and (v being constant)
    H v = ∂(gᵀ v)/∂x.
So two backward passes are enough (Pearlmutter 1994).

    tinylm.grad(y, x)                      returns ∂y/∂x as a tensor, for a scalar y and a tensor x with requires_grad=True
    tinylm.grad(y, x, create_graph=True)   the same, recorded, so that it can be differentiated again

f takes a tensor and returns a scalar tensor; (a * b).sum() is the scalar product of two tensors.
"""

import tinylm


def hvp(f, x, v):
    """Returns H v as a tensor.  f: Tensor -> scalar Tensor; x, v: arrays of one shape."""
    x = tinylm.Tensor(x, requires_grad=True)
    # >>> two gradients
    g = tinylm.grad(f(x), x, create_graph=True)
    return tinylm.grad((g * v).sum(), x)
    # <<<
