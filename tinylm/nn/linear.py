"""The linear layer."""

import math

from tinylm import ops
from tinylm.engine.tensor import Tensor
from tinylm.nn import init
from tinylm.nn.modules import Module


class Linear(Module):
    """y = x Wᵀ + b.

    weight (out_features, in_features), bias (out_features,) or None, both initially
    U(-1/√in, 1/√in) as in PyTorch.  x (..., in) -> (..., out).
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        bound = 1 / math.sqrt(in_features) if in_features else 0.0
        self.in_features, self.out_features = in_features, out_features
        self.weight = init.uniform((out_features, in_features), bound)
        self.bias = init.uniform((out_features,), bound) if bias else None

    def forward(self, x: Tensor, residual: Tensor | None = None, *, activation: str | None = None) -> Tensor:
        """act(x Wᵀ + b) + residual in one op."""
        return ops.linear(x, self.weight, self.bias, residual, activation=activation, frozen=self.frozen)

    @property
    def frozen(self) -> bool:
        """Whether no parameter of the layer is trained."""
        return not (self.weight.requires_grad or (self.bias is not None and self.bias.requires_grad))

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


def joinable(*layers: Linear) -> bool:
    """Whether the layers are what their weights and biases say and no more, so that one op may do the work of all: adapters add to it."""
    return all(type(layer) is Linear for layer in layers)
