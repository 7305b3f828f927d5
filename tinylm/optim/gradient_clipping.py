"""Clipping gradients by their global norm, apart from an optimiser's own step."""

from collections.abc import Iterable
from typing import Any

from tinylm.checks import check_at_least
from tinylm.engine.arrays import Array
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError
from tinylm.optim.optimizer import clipping_factor, grad_norm


def clip_grad_norm_(parameters: Tensor | Iterable[Tensor], max_norm: float) -> Array:
    """Scales all gradients together, in place, so that their norm is at most max_norm; returns the
    norm before. `Optimizer.step(max_norm=...)` does the same within the update.
    Pascanu et al. 2013, arXiv:1211.5063, algorithm 1.

    parameters: tensors, or a single one; those without a gradient are left out. Raises ConfigError for anything else, and for
    a max_norm that is not a number of at least 0."""
    max_norm = check_at_least(0, "max_norm", max_norm, finite=False)
    members = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    for p in members:
        if not isinstance(p, Tensor):
            raise ConfigError(f"clip_grad_norm_ takes tensors, got {type(p).__name__}")
    grads: list[Any] = [p.grad for p in members if p.grad is not None]
    norm = grad_norm(grads)
    for g in grads:
        g *= clipping_factor(norm, max_norm).astype(g.dtype)
    return norm
