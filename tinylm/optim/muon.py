"""Muon: momentum whose matrices are made orthogonal before each update."""

import math
from collections.abc import Iterable
from typing import Any

from tinylm.checks import check_below_one, check_flag
from tinylm.engine.arrays import Array, array_module
from tinylm.engine.kernels import update
from tinylm.errors import ConfigError
from tinylm.optim.adam import AdamBase
from tinylm.optim.optimizer import FlatParameters

STEPS, COEFFICIENTS = 5, (3.4445, -4.7750, 2.0315)


def orthogonalized(g: Array) -> Array:
    """Returns about U Vᵀ for g = U S Vᵀ: all singular values become values between about 0.7 and 1.2.

    X = g / ‖g‖, then five times X = a X + (b X Xᵀ + c (X Xᵀ)²) X: a quintic Newton-Schulz iteration
    whose coefficients trade exactness for faster growth of small singular values.
    g: a matrix or a batch of them (..., m, n). Jordan et al. 2024, "Muon", kellerjordan.github.io/posts/muon.
    """
    xp = array_module(g)
    tall = g.shape[-2] > g.shape[-1]
    x = xp.swapaxes(g, -2, -1) if tall else g  # the products are of the shorter side
    x = x / (xp.sqrt((x * x).sum(axis=(-2, -1), keepdims=True)) + 1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(STEPS):
        gram = x @ xp.swapaxes(x, -2, -1)
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return xp.swapaxes(x, -2, -1) if tall else x


@update
def muon(values: Array, grads: Array, exp_avg: Array, /, *, lr, momentum, weight_decay, grad_scale) -> None:
    """One step on a matrix (m, n), in place.

    g = grad_scale grads;  v = μ v + (1 - μ) g;  w -= lr weight_decay w;
    w -= lr √max(1, m/n) O(μ v + (1 - μ) g)  with O as `orthogonalized`.
    A matrix of k n rows and n columns is k matrices on top of each other, such as the gates of a
    recurrent layer or the queries, keys and values of attention: each is orthogonalized on its own.
    """
    g = grads if grad_scale is None else grads * grad_scale
    exp_avg *= momentum
    exp_avg += (1 - momentum) * g
    direction = momentum * exp_avg + (1 - momentum) * g
    m, n = direction.shape
    if m % n == 0:
        direction = direction.reshape(m // n, n, n)
    values *= 1 - lr * weight_decay
    values -= (lr * math.sqrt(max(1, direction.shape[-2] / n))) * orthogonalized(direction).reshape(m, n)


class Muon(AdamBase):
    """Muon for the groups with orthogonal=True, AdamW for the others.

    Muon is for the matrices inside a network; embeddings, output layers and vectors belong in AdamW
    groups. The settings betas and eps are AdamW's, momentum is Muon's. A usual learning rate is 0.02
    for Muon, and AdamW's usual one for the others. Raises ConfigError for a parameter of a Muon group that
    is not a matrix.
    """

    decoupled = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 1e-2,
        orthogonal: bool = True,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, momentum=momentum, orthogonal=orthogonal)

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        group["momentum"] = check_below_one("momentum", group["momentum"])
        group["orthogonal"] = check_flag("orthogonal", group["orthogonal"])
        for made, known in zip(self.param_groups, self._checked, strict=False):
            if made is group and known["orthogonal"] != group["orthogonal"]:
                raise ConfigError("orthogonal cannot be changed, since the optimiser keeps other state then: make a new optimiser")
        for p in group["params"]:
            if group["orthogonal"] and p.ndim != 2:
                raise ConfigError(
                    f"Muon got a parameter of shape {p.shape}: expected a matrix; put others into a group with orthogonal=False"
                )

    def states_of(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("exp_avg",) if group["orthogonal"] else super().states_of(group)

    def update_segment(self, group: dict[str, Any], flat: FlatParameters, members: range, step: int, grad_scale: Any) -> None:
        if not group["orthogonal"]:
            super().update_segment(group, flat, members, step, grad_scale)
            return
        settings = {name: group[name] for name in ("lr", "momentum", "weight_decay")}
        for i in members:
            muon(
                flat.view(flat.values, i), flat.view(flat.grads, i), flat.view(flat.state["exp_avg"], i), grad_scale=grad_scale, **settings
            )
