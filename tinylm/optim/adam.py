"""Adam and AdamW."""

import math
from collections.abc import Iterable
from typing import Any

from tinylm.checks import as_number, check_at_least, shown
from tinylm.engine.arrays import Array, array_module
from tinylm.engine.kernels import update
from tinylm.errors import ConfigError
from tinylm.optim.optimizer import Optimizer

_BLOCK = 1 << 14  # elements per block: its nine arrays fit the L2 cache


@update
def adamw(
    values: Array, grads: Array, exp_avg: Array, exp_avg_sq: Array, /, *, lr, betas, eps, weight_decay, decoupled, step, grad_scale
) -> None:
    """One step on flat arrays, in place.

    g = grad_scale grads (+ weight_decay w unless decoupled);  m = β1 m + (1 - β1) g;
    v = β2 v + (1 - β2) g²;  w -= lr weight_decay w if decoupled;
    w -= lr/(1 - β1ᵗ) m / (√v/√(1 - β2ᵗ) + eps).
    Kingma & Ba 2014, arXiv:1412.6980, algorithm 1; Loshchilov & Hutter 2017, arXiv:1711.05101, algorithm 2.
    """
    xp = array_module(values)
    beta1, beta2 = betas
    rate = lr / (1 - beta1**step)
    root = math.sqrt(1 - beta2**step)
    block = _BLOCK if isinstance(values, array_module().ndarray) else values.size
    for start in range(0, values.size, max(block, 1)):
        at = slice(start, start + block)
        w, g, m, v = values[at], grads[at], exp_avg[at], exp_avg_sq[at]
        if grad_scale is not None:
            g = g * grad_scale
        if weight_decay and decoupled:
            w *= 1 - lr * weight_decay
        elif weight_decay:
            g = g + weight_decay * w
        m *= beta1
        m += (1 - beta1) * g
        v *= beta2
        square = g * g
        square *= 1 - beta2
        v += square
        denominator = xp.sqrt(v, out=square)
        denominator /= root
        denominator += eps
        update_ = m / denominator
        update_ *= rate
        w -= update_


class AdamBase(Optimizer):
    """What Adam, AdamW and the AdamW part of Muon have in common; `decoupled` selects decoupled weight decay."""

    states = ("exp_avg", "exp_avg_sq")
    squares = ("exp_avg_sq",)
    decoupled = False

    def __init__(self, params: Iterable[Any], lr: float, betas: tuple[float, float], eps: float, weight_decay: float, **more: Any) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, **more})

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        group["eps"] = check_at_least(0, "eps", group["eps"])
        betas = group["betas"]
        numbers = tuple(map(as_number, betas)) if isinstance(betas, Iterable) else ()
        if len(numbers) != 2 or not all(0 <= b < 1 for b in numbers):
            raise ConfigError(f"betas {shown(betas)}: expected two numbers from 0 up to, not including, 1")
        group["betas"] = numbers

    def update(self, group: dict[str, Any], values: Array, grads: Array, state: dict[str, Array], step: int, grad_scale: Any) -> None:
        settings = {name: group[name] for name in ("lr", "betas", "eps", "weight_decay")}
        adamw(
            values, grads, state["exp_avg"], state["exp_avg_sq"],
            step=step, grad_scale=grad_scale, decoupled=self.decoupled, **settings,
        )  # fmt: skip


class Adam(AdamBase):
    """Adam: w -= lr m̂ / (√v̂ + eps), with m and v the running means of the gradient g and of its square.

    m = β1 m + (1 - β1) g,  v = β2 v + (1 - β2) g²,  m̂ = m/(1 - β1ᵗ),  v̂ = v/(1 - β2ᵗ) in step t = 1, 2, ...; betas = (β1, β2).
    weight_decay adds weight_decay w to g, as in PyTorch.  Kingma & Ba 2014, arXiv:1412.6980, algorithm 1.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)


class AdamW(AdamBase):
    """Adam with decoupled weight decay: each step subtracts lr weight_decay w from w.

    params: parameters, or groups of them with settings of their own. Loshchilov & Hutter 2017, arXiv:1711.05101.

    >>> w = tinylm.Tensor([1.0, -1.0], requires_grad=True)
    >>> optimizer = tinylm.optim.AdamW([w], lr=0.1, weight_decay=0.0)
    >>> for _ in range(100):
    ...     loss = ((w - 3) ** 2).sum()
    ...     optimizer.zero_grad()
    ...     loss.backward()
    ...     norm = optimizer.step()
    >>> w.numpy().round(1)
    array([3., 3.], dtype=float32)
    """

    decoupled = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)
