"""Jacobians and products with second derivatives, from `grad`: a few lines each."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinylm.engine.arrays import array_module
from tinylm.engine.autograd import set_recording
from tinylm.engine.grad import grad
from tinylm.engine.tensor import Tensor
from tinylm.errors import ShapeError

_inside = contextvars.ContextVar("inside", default=False)  # the function of a jacobian or hvp is being called


@contextlib.contextmanager
def _differentiated() -> Iterator[None]:
    """Within the context all is recorded, and the results of further jacobians and hvps too."""
    token = _inside.set(True)
    try:
        with set_recording(True):
            yield
    finally:
        _inside.reset(token)


def jacobian(f: Callable[..., Any], x: Any) -> Any:
    """Returns J with J[i, j] = ∂f(x)_i / ∂x_j: one row per element of the result, each by a backward pass.

    x: a tensor or an array; f(x) is a tensor, and J has the shape (*f(x).shape, *x.shape). If x is a list, f gets its members
    as arguments, and J is a list of one Jacobian for each. A parameter of a model may be x: it is passed as it is, so f may use
    the model. The Jacobian of a gradient, jacobian(lambda x: grad(f(x), x, create_graph=True), x), is the Hessian of f.
    Within the function of another jacobian or hvp the result is recorded, so that the outer one sees it depend on x.

    >>> tinylm.jacobian(lambda x: x * x, np.array([1.0, 2.0]))
    Tensor([[2., 0.],
            [0., 4.]], dtype=float64)
    """
    leaves, nested = _leaves(x), _inside.get()
    with _differentiated():
        y = Tensor.as_tensor(f(*leaves))
    xp, rows = array_module(y.data), []
    for i in range(y.size):
        row = (xp.arange(y.size) == i).astype(y.dtype).reshape(y.shape)
        rows.append(_gradients(y, leaves, row, retain_graph=True, create_graph=nested))
    found = []
    for k, t in enumerate(leaves):
        parts = [row[k] if nested else row[k].data for row in rows]
        whole = array_module(*parts).stack(parts).reshape(y.shape + t.shape) if parts else xp.zeros(y.shape + t.shape, t.dtype)
        found.append(Tensor.as_tensor(whole))
    return found if isinstance(x, (list, tuple)) else found[0]


def hvp(f: Callable[..., Any], x: Any, v: Any) -> Any:
    """Returns H v with H[i, j] = ∂²f(x) / ∂x_i ∂x_j, without the matrix H: the gradient of (∂f/∂x)ᵀ v, by two backward passes.

    x: as for `jacobian`; f(x) has one element; v: an array of x's shape, or a list of them if x is a list, as the result is then.
    Pearlmutter 1994, "Fast exact multiplication by the Hessian". Raises ShapeError for a v of another shape or an f of more elements.
    """
    leaves, vs = _leaves(x), list(v) if isinstance(x, (list, tuple)) else [v]
    shapes, expected = [np.shape(w) for w in vs], [t.shape for t in leaves]
    if shapes != expected:
        raise ShapeError(f"hvp: v has the shape {_listed(shapes)}, expected x's {_listed(expected)}")
    nested = _inside.get()
    with _differentiated():
        y = Tensor.as_tensor(f(*leaves))
        if y.size != 1:
            raise ShapeError(f"hvp: f(x) has the shape {y.shape}, expected one element")
        slopes = _gradients(y, leaves, None, create_graph=True)
        along = sum((g * Tensor.as_tensor(w).detach()).sum() for g, w in zip(slopes, vs, strict=True))
    found = _gradients(along, leaves, None, create_graph=nested)
    return found if isinstance(x, (list, tuple)) else found[0]


def _leaves(x: Any) -> list[Tensor]:
    """Returns x, or its members, as tensors that require a gradient: those that do themselves, copies of the others."""
    several = [Tensor.as_tensor(t) for t in (x if isinstance(x, (list, tuple)) else [x])]
    return [t if t.requires_grad else Tensor(t.data, requires_grad=True) for t in several]


def _gradients(y: Any, xs: list[Tensor], dy: Any, **settings: Any) -> list[Tensor]:
    """Returns dy/dx for each x, zeros where y does not depend on it."""
    found = grad(y, xs, dy, **settings) if y.requires_grad else [None] * len(xs)
    return [Tensor(array_module(x.data).zeros(x.shape, x.dtype)) if g is None else g for g, x in zip(found, xs, strict=True)]


def _listed(shapes: list[Any]) -> str:
    return ", ".join(str(tuple(shape)) for shape in shapes)
