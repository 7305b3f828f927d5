"""Clipping by the global norm.  Pascanu et al. 2013, arXiv:1211.5063, algorithm 1."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from tinylm.engine.arrays import Array, array_module
from tinylm.engine.devices import make_current
from tinylm.engine.kernels import update
from tinylm.engine.tensor import Tensor


@update
def squared_norm(grad: Array, total: Array, /) -> None:
    """total += Σ grad², for a flat gradient and a total of shape ()."""
    total += array_module(grad).dot(grad, grad)


def grad_norm(grads: Sequence[Array]) -> Array:
    """√Σ g² over all arrays, a 0-d array on their device."""
    if not grads:
        return array_module().zeros(())
    make_current(grads[0])
    total = array_module(grads[0]).zeros((), grads[0].dtype)
    for g in grads:
        squared_norm(g.reshape(-1), total)
    return array_module(total).sqrt(total)


def scale_for(norm: Array, max_norm: float) -> Array:
    """min(1, max_norm / (norm + 1e-6)): PyTorch's factor, a 0-d array that stays on the device."""
    return array_module(norm).minimum(max_norm / (norm + norm.dtype.type(1e-6)), norm.dtype.type(1))


def clip_grad_norm_(parameters: Iterable[Tensor], max_norm: float) -> Array:
    """Scales all gradients together, in place, so that their norm is at most max_norm; returns the
    norm before. `Optimizer.step(max_norm=...)` does the same within the update."""
    if math.isnan(max_norm) or max_norm < 0:
        raise ValueError(f"max_norm {max_norm}: expected a number of at least 0")
    grads: list[Any] = [p.grad for p in parameters if p.grad is not None]
    norm = grad_norm(grads)
    for g in grads:
        g *= scale_for(norm, max_norm).astype(g.dtype)
    return norm
