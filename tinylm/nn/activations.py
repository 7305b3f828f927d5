"""Activations as layers, and by the names that other layers take them by.

They have PyTorch's names and arguments: an axis is `dim` here, as in every layer, and `axis` in the ops that they call.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from tinylm import ops
from tinylm.checks import check_choice, check_finite, check_integer, check_positive, shown
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError
from tinylm.nn.modules import Module

Input = Tensor | np.ndarray


class Identity(Module):
    """y = x, whatever the arguments: what takes the place of a layer that is left out."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """Returns x."""
        return x


class ReLU(Module):
    """y = max(x, 0), element by element: x where it is positive, else 0."""

    def forward(self, x: Input) -> Tensor:
        """Returns the function of each element of x (...), in the same shape."""
        return ops.relu(x)


class LeakyReLU(Module):
    """y = x where x > 0, else negative_slope x, element by element.  Maas et al. 2013."""

    def __init__(self, negative_slope: float = 1e-2) -> None:
        super().__init__()
        self.negative_slope = check_finite("negative_slope", negative_slope)

    def forward(self, x: Input) -> Tensor:
        """Returns the function of each element of x (...), in the same shape."""
        return ops.leaky_relu(x, negative_slope=self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class ELU(Module):
    """y = x where x > 0, else alpha (eˣ - 1), element by element.  Clevert et al. 2015, arXiv:1511.07289."""

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = check_finite("alpha", alpha)

    def forward(self, x: Input) -> Tensor:
        """Returns the function of each element of x (...), in the same shape."""
        return ops.elu(x, alpha=self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


class GELU(Module):
    """y = x Φ(x), element by element; Φ(x) = (1 + erf(x/√2)) / 2 is the normal distribution function.

    approximate="tanh": Φ(x) ≈ (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2, with which GPT-2 was trained.  Hendrycks & Gimpel 2016,
    arXiv:1606.08415.
    """

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        check_choice("approximate", approximate, ("none", "tanh"))
        self.approximate = approximate

    def forward(self, x: Input) -> Tensor:
        """Returns the function of each element of x (...), in the same shape."""
        return ops.gelu(x, approximate=self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class SiLU(Module):
    """y = x σ(x), element by element, σ(x) = 1 / (1 + e^-x); also called swish.  Elfwing et al. 2017, arXiv:1702.03118."""

    def forward(self, x: Input) -> Tensor:
        """Returns the function of each element of x (...), in the same shape."""
        return ops.silu(x)


class Sigmoid(Module):
    """y = σ(x) = 1 / (1 + e^-x), element by element: between 0 and 1."""

    def forward(self, x: Input) -> Tensor:
        """Returns the function of each element of x (...), in the same shape."""
        return ops.sigmoid(x)


class Tanh(Module):
    """y = tanh(x) = (eˣ - e^-x) / (eˣ + e^-x), element by element: between -1 and 1."""

    def forward(self, x: Input) -> Tensor:
        """Returns the function of each element of x (...), in the same shape."""
        return ops.tanh(x)


class Softplus(Module):
    """y = log(1 + e^(beta x)) / beta, element by element: a smooth max(x, 0).  Dugas et al. 2000.

    It is exact for every x: PyTorch's threshold, above which it returns x, is not needed.
    """

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__()
        check_positive(beta=beta)
        self.beta = check_finite("beta", beta)

    def forward(self, x: Input) -> Tensor:
        """Returns the function of each element of x (...), in the same shape."""
        return ops.softplus(x) if self.beta == 1 else ops.softplus(x * self.beta) / self.beta

    def extra_repr(self) -> str:
        return f"beta={self.beta}"


class _AlongAxis(Module):
    """What Softmax and LogSoftmax have in common. `dim` has no default: PyTorch's, which depends on the number of axes, is
    deprecated there."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = check_integer("dim", dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Softmax(_AlongAxis):
    """y = eˣ / Σ eˣ, the sum over the axis `dim`: scores become probabilities, positive numbers that sum to 1."""

    def forward(self, x: Input) -> Tensor:
        """Returns x (...) with positive numbers that sum to 1 along the axis."""
        return ops.softmax(x, axis=self.dim)


class LogSoftmax(_AlongAxis):
    """y = x - log Σ eˣ, the sum over the axis `dim`: the logarithm of the softmax, exact where that would round to 0."""

    def forward(self, x: Input) -> Tensor:
        """Returns the logarithm of the softmax of x (...) along the axis."""
        return ops.log_softmax(x, axis=self.dim)


Activation = str | Callable[[Tensor], Tensor]  # a name of `ACTIVATIONS`, an op, a module, or any other function of one tensor

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    **ops.ACTIVATIONS, "tanh": ops.tanh, "leaky_relu": ops.leaky_relu, "elu": ops.elu, "softplus": ops.softplus,
}  # fmt: skip


def check_activation(activation: Any) -> Any:
    """Returns the activation. Raises ConfigError unless it is a name of `ACTIVATIONS` or can be called."""
    if isinstance(activation, type):
        raise ConfigError(f"activation is the class {shown(activation)}: expected an instance, such as {activation.__name__}()")
    if not callable(activation):
        check_choice("activation", activation, ACTIVATIONS)
    return activation


def activation_function(activation: Activation) -> Callable[[Tensor], Tensor]:
    """Returns the function that an activation is or names."""
    return ACTIVATIONS[activation] if isinstance(activation, str) else activation


def fused_name(activation: Activation) -> str | None:
    """Returns the name under which ops.linear computes this activation together with its product; None if it does not."""
    if isinstance(activation, str):
        return activation if activation in ops.ACTIVATIONS else None
    return next((name for name, op in ops.ACTIVATIONS.items() if op is activation), None)
