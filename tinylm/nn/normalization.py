"""Layer norm and RMS norm layers."""

import math
from typing import Any

import numpy as np

from tinylm import ops
from tinylm.engine.tensor import Tensor
from tinylm.errors import ShapeError
from tinylm.nn import init
from tinylm.nn.modules import Module


class _Norm(Module):
    """Over the trailing axes `normalized_shape`, as one flattened axis."""

    def __init__(self, normalized_shape: int | tuple[int, ...], eps: float | None) -> None:
        super().__init__()
        self.normalized_shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.eps = eps

    def over_last_axis(self, op: Any, x: Tensor, *parameters: Tensor | None) -> Tensor:
        shape = self.normalized_shape
        eps = float(np.finfo(x.dtype).eps) if self.eps is None else self.eps
        if x.shape[x.ndim - len(shape) :] != shape:
            raise ShapeError(f"{type(self).__name__}: x has shape {x.shape}, its last axes should be {shape}")
        if len(shape) == 1:
            return op(x, *parameters, eps=eps)
        flat = ops.reshape(x, (*x.shape[: x.ndim - len(shape)], math.prod(shape)))
        rows = (None if p is None else ops.reshape(p, (-1,)) for p in parameters)
        return ops.reshape(op(flat, *rows, eps=eps), x.shape)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}"


class LayerNorm(_Norm):
    """weight (x - mean) / √(var + eps) + bias over the last axes; see ops.layer_norm.

    weight (normalized_shape) ones and bias zeros; none of them if not elementwise_affine, no bias
    if not bias.
    """

    def __init__(
        self, normalized_shape: int | tuple[int, ...], eps: float = 1e-5, elementwise_affine: bool = True, bias: bool = True
    ) -> None:
        super().__init__(normalized_shape, eps)
        self.weight = init.ones(self.normalized_shape) if elementwise_affine else None
        self.bias = init.zeros(self.normalized_shape) if elementwise_affine and bias else None

    def forward(self, x: Tensor) -> Tensor:
        return self.over_last_axis(ops.layer_norm, x, self.weight, self.bias)


class RMSNorm(_Norm):
    """weight x / √(mean(x²) + eps) over the last axes; see ops.rms_norm.

    eps None is the smallest relative step of x's dtype, as in PyTorch.
    """

    def __init__(self, normalized_shape: int | tuple[int, ...], eps: float | None = None, elementwise_affine: bool = True) -> None:
        super().__init__(normalized_shape, eps)
        self.weight = init.ones(self.normalized_shape) if elementwise_affine else None

    def forward(self, x: Tensor) -> Tensor:
        return self.over_last_axis(ops.rms_norm, x, self.weight)
