"""The elementary layers, each an op and its parameters: Linear, Embedding, LayerNorm, RMSNorm and Dropout."""

import math
from collections.abc import Callable, Iterable

import numpy as np

from tinylm import ops
from tinylm.checks import check_at_least, check_integer, check_probability, shown
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError, ShapeError
from tinylm.nn import init
from tinylm.nn.modules import Module, Parameter


class Dropout(Module):
    """Zeroes each element with probability p and scales the rest by 1/(1 - p); does nothing in evaluation mode."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = check_probability(p)

    @property
    def active(self) -> bool:
        """Whether elements are dropped now: in training mode, and unless p is 0."""
        return self.training and self.p != 0

    def forward(self, x: Tensor) -> Tensor:
        """Returns x (...) with elements dropped, in training mode; x itself otherwise."""
        return ops.dropout(x, self.p) if self.active else x

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Linear(Module):
    """y = x Wᵀ + b.

    weight (out_features, in_features), bias (out_features,) or None, both initially
    U(-1/√in, 1/√in) as in PyTorch.  x (..., in) -> (..., out).
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        check_integer("in_features", in_features, 0)
        check_integer("out_features", out_features, 0)
        bound = 1 / math.sqrt(in_features) if in_features else 0.0
        self.in_features, self.out_features = in_features, out_features
        self.weight = init.uniform((out_features, in_features), bound)
        self.bias = init.uniform((out_features,), bound) if bias else None

    def forward(self, x: Tensor | np.ndarray, residual: Tensor | None = None, *, activation: str | None = None) -> Tensor:
        """Returns act(x Wᵀ + b) + residual, computed by one op."""
        return ops.linear(x, self.weight, self.bias, residual, activation=activation, frozen=self.frozen)

    def add_to(self, residual: Tensor, x: Tensor, dropout: Dropout) -> Tensor:
        """Returns residual + dropout(x Wᵀ + b), computed by one op when nothing is dropped."""
        return residual + dropout(self(x)) if dropout.active else self(x, residual)

    @property
    def frozen(self) -> bool:
        """Whether no parameter of the layer is trained."""
        return not (self.weight.requires_grad or (self.bias is not None and self.bias.requires_grad))

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Embedding(Module):
    """Row ids[...] of a table: weight (num_embeddings, embedding_dim), initially N(0, 1).

    The row padding_idx starts at zero and gets no gradient.  ids (...) -> (..., embedding_dim).
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None) -> None:
        super().__init__()
        check_integer("num_embeddings", num_embeddings, 0)
        check_integer("embedding_dim", embedding_dim, 0)
        if padding_idx is not None and not -num_embeddings <= check_integer("padding_idx", padding_idx) < num_embeddings:
            raise ConfigError(f"padding_idx {shown(padding_idx)} is out of range for {num_embeddings} embeddings")
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        self.weight = init.normal((num_embeddings, embedding_dim))
        if self.padding_idx is not None:
            self.weight.data[self.padding_idx] = 0

    def forward(self, ids: Tensor | np.ndarray) -> Tensor:
        """Returns the rows of the table: ids (...) -> (..., embedding_dim). Raises RangeError for an id outside the table."""
        return ops.embedding(ids, self.weight, padding_idx=self.padding_idx)

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}"


class _Norm(Module):
    """A norm over the trailing axes `normalized_shape`, taken as one flattened axis."""

    def __init__(self, normalized_shape: int | tuple[int, ...], eps: float | None) -> None:
        super().__init__()
        shape = tuple(normalized_shape) if isinstance(normalized_shape, Iterable) else (normalized_shape,)
        self.normalized_shape = tuple(check_integer("normalized_shape", n, 0) for n in shape)
        self.eps = None if eps is None else check_at_least(0, "eps", eps)

    def over_last_axis(self, op: Callable[..., Tensor], x: Tensor | np.ndarray, *parameters: Parameter | None) -> Tensor:
        """Returns op(x, *parameters, eps). Raises ShapeError unless the last axes of x are `normalized_shape`."""
        shape = self.normalized_shape
        dtype = next((a.dtype for a in (x, *parameters) if a is not None and a.dtype.kind == "f"), np.float32)
        eps = float(np.finfo(dtype).eps) if self.eps is None else self.eps
        if x.shape[x.ndim - len(shape) :] != shape:
            raise ShapeError(f"{type(self).__name__}: x has shape {x.shape}, its last axes should be {shape}")
        if len(shape) == 1:
            return op(x, *parameters, eps=eps)
        flat = ops.reshape(x, (*x.shape[: x.ndim - len(shape)], math.prod(shape)))  # (..., *shape) -> (..., C)
        rows = (None if p is None else ops.reshape(p, (-1,)) for p in parameters)  # (*shape) -> (C,)
        return ops.reshape(op(flat, *rows, eps=eps), x.shape)  # (..., C) -> (..., *shape)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}"


class LayerNorm(_Norm):
    """y = weight (x - mean) / √(var + eps) + bias: mean 0 and variance 1 over the last axes, then a scale and a shift.

    x (..., *normalized_shape) -> y of the same shape. mean and var = mean((x - mean)²) are taken over the axes of normalized_shape, for
    each row by itself.  Ba et al. 2016, arXiv:1607.06450, eq. 4.
    weight (normalized_shape) starts at one and bias at zero; elementwise_affine=False leaves out both, bias=False the bias.
    """

    def __init__(
        self, normalized_shape: int | tuple[int, ...], eps: float = 1e-5, elementwise_affine: bool = True, bias: bool = True
    ) -> None:
        super().__init__(normalized_shape, eps)
        self.weight = init.ones(self.normalized_shape) if elementwise_affine else None
        self.bias = init.zeros(self.normalized_shape) if elementwise_affine and bias else None

    def forward(self, x: Tensor | np.ndarray) -> Tensor:
        """Returns x (..., *normalized_shape) normalized, in the same shape. Raises ShapeError if its last axes differ."""
        return self.over_last_axis(ops.layer_norm, x, self.weight, self.bias)


class RMSNorm(_Norm):
    """y = weight x / √(mean(x²) + eps): root mean square 1 over the last axes, then a scale; no mean is subtracted.

    x (..., *normalized_shape) -> y of the same shape; the mean is taken over the axes of normalized_shape, for each row by itself.
    weight (normalized_shape) starts at one; elementwise_affine=False leaves it out.  Zhang & Sennrich 2019, arXiv:1910.07467, eq. 4.
    An eps of None stands for the machine epsilon of x's dtype, as in PyTorch.
    """

    def __init__(self, normalized_shape: int | tuple[int, ...], eps: float | None = None, elementwise_affine: bool = True) -> None:
        super().__init__(normalized_shape, eps)
        self.weight = init.ones(self.normalized_shape) if elementwise_affine else None

    def forward(self, x: Tensor | np.ndarray) -> Tensor:
        """Returns x (..., *normalized_shape) normalized, in the same shape. Raises ShapeError if its last axes differ."""
        return self.over_last_axis(ops.rms_norm, x, self.weight)
