"""Stochastic gradient descent."""

from collections.abc import Iterable
from typing import Any

from tinylm.checks import check_at_least, check_flag
from tinylm.engine.arrays import Array
from tinylm.engine.kernels import update
from tinylm.errors import ConfigError
from tinylm.optim.optimizer import Optimizer


@update
def sgd(values: Array, grads: Array, velocity: Array, /, *, lr, momentum, weight_decay, nesterov, step, grad_scale) -> None:
    """g += weight_decay w;  v = momentum v + g (v = g at first);  w -= lr (g + momentum v if nesterov else v)."""
    g = grads if grad_scale is None else grads * grad_scale
    if weight_decay:
        g = g + weight_decay * values
    if momentum:
        velocity *= momentum if step > 1 else 0
        velocity += g
        g = g + momentum * velocity if nesterov else velocity
    values -= lr * g


class SGD(Optimizer):
    """w -= lr v, v = momentum v + g, as PyTorch's SGD without dampening.

    nesterov: Sutskever et al. 2013.  weight_decay adds weight_decay w to the gradient.
    """

    states = ("velocity",)

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-3, momentum: float = 0.0, weight_decay: float = 0.0, nesterov: bool = False
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov})

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        group["momentum"] = check_at_least(0, "momentum", group["momentum"])
        group["nesterov"] = check_flag("nesterov", group["nesterov"])
        if group["nesterov"] and not group["momentum"]:
            raise ConfigError("nesterov needs a momentum above 0")

    def update(self, group: dict[str, Any], values: Array, grads: Array, state: dict[str, Array], step: int, grad_scale: Any) -> None:
        settings = {name: group[name] for name in ("lr", "momentum", "weight_decay", "nesterov")}
        sgd(values, grads, state["velocity"], step=step, grad_scale=grad_scale, **settings)
