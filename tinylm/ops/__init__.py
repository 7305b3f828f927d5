"""Every op by its name, and the operators and NumPy-named methods of Tensor. `__init__.pyi` has their types.

This module is also the "NumPy" of tensors: `array_module(tensor)` returns it, so an op body
that is run again on tensors computes with the functions below.
"""

import sys as _sys
from typing import Any

from tinylm.checks import shown
from tinylm.engine.arrays import register_tensor_namespace
from tinylm.engine.devices import device_namespace, parse_device
from tinylm.engine.kernels import registry
from tinylm.engine.tensor import Tensor, raw_index
from tinylm.errors import AutogradError, ShapeError
from tinylm.ops.activations import ACTIVATIONS as ACTIVATIONS
from tinylm.ops.activations import elu, gelu, identity, leaky_relu, relu, sigmoid, silu, softplus, swiglu
from tinylm.ops.along_axis import argsort, cumsum, sort, topk
from tinylm.ops.attention import merge_heads, scaled_dot_product_attention, split_heads
from tinylm.ops.comparisons import argmax, argmin, equal, greater, greater_equal, less, less_equal, not_equal, ones_like, zeros_like
from tinylm.ops.devices import to_device
from tinylm.ops.dropout import dropout
from tinylm.ops.einsum import einsum as _einsum
from tinylm.ops.elementary import clip, cos, expm1, floor, floor_divide, remainder, round, sin, square
from tinylm.ops.indexing import embedding, gather, getitem, index_add, scatter_add, take, take_along_axis
from tinylm.ops.joint_linear import rotary_heads, swiglu_linear
from tinylm.ops.linear import linear, matmul
from tinylm.ops.losses import binary_cross_entropy_with_logits, cross_entropy, nll_loss
from tinylm.ops.masks import all, any, bitwise_and, bitwise_or, invert, isfinite, isnan, one_hot, tril, triu
from tinylm.ops.normalization import layer_norm, rms_norm
from tinylm.ops.pointwise import (
    abs,
    add,
    astype,
    divide,
    erf,
    erfc,
    exp,
    log,
    log1p,
    maximum,
    minimum,
    multiply,
    negative,
    power,
    sign,
    sqrt,
    subtract,
    tanh,
    where,
)
from tinylm.ops.recurrent import gru, lstm, rnn
from tinylm.ops.reductions import logsumexp, max, mean, min, prod, std, sum, var
from tinylm.ops.rotary import rotary
from tinylm.ops.shapes import (
    broadcast_to,
    concatenate,
    expand_dims,
    flatten,
    flip,
    pad,
    repeat,
    reshape,
    roll,
    split,
    squeeze,
    stack,
    swapaxes,
    tile,
    transpose,
)
from tinylm.ops.softmax import log_softmax, softmax

__all__ = sorted(["arange", *registry])


def arange(start: int, stop: int | None = None, step: int = 1, *, device: str = "cpu") -> Tensor:
    """Returns the integers from start (0 if only one bound is given) up to stop, without it, as a tensor on `device`.

    >>> tinylm.arange(2, 6)
    Tensor([2, 3, 4, 5], dtype=int64)
    """
    start, stop = (0, start) if stop is None else (start, stop)
    return Tensor(device_namespace(device).arange(start, stop, step))


def einsum(subscripts: Any, *arrays: Any) -> Any:
    """y[out] = Σ Π_i x_i[in_i] over the letters that are not in out, for "in_0,in_1,...->out": "bqd,bkd->bqk" is Q Kᵀ.

    Each letter names an axis. A letter twice in one operand takes its diagonal; axes of length 1 broadcast; "..." stands for
    leading axes, which broadcast; without "->out", out is "..." and the letters that occur once, in alphabetical order.
    dx_i is the same sum over dy and the other operands, with in_i as its result. The arrays may also come first, in one list,
    as all ops with several arrays take them: einsum([q, k], "bqd,bkd->bqk"). Raises ShapeError for subscripts that do not fit.

    >>> tinylm.einsum("ij,jk->ik", np.eye(2), np.array([[1.0], [2.0]]))
    Tensor([[1.],
            [2.]], dtype=float64)
    """
    if isinstance(subscripts, str):
        return _einsum(arrays, subscripts)
    if len(arrays) != 1 or not isinstance(subscripts, (list, tuple)):
        raise ShapeError(f"einsum: the first argument is {shown(subscripts)}: expected subscripts such as 'ij,jk->ik'")
    return _einsum(subscripts, arrays[0])


einsum.op = _einsum.op  # type: ignore[attr-defined]


def _reflected(function: Any) -> Any:
    return lambda self, other: function(other, self)


def _in_place(function: Any, symbol: str) -> Any:
    """Returns the method of an operator such as +=, which makes a new tensor, since the graph may need the old values."""

    def method(self: Tensor, other: Any) -> Tensor:
        if type(self) is not Tensor or (self.requires_grad and self.node is None):
            kind = "a parameter" if type(self) is not Tensor else "a leaf that requires a gradient"
            new = f"x {symbol} y on {kind} (shape {self.shape}) would make x another tensor: write z = x {symbol[:-1]} y for a new tensor"
            raise AutogradError(f"{new}, or x[...] = x {symbol[:-1]} y under tinylm.no_grad() to change the values of x")
        return function(self, other)

    return method


def _several(function: Any) -> Any:
    """Returns a method that takes its axes or sizes one by one or as a tuple: x.reshape(2, 3)."""

    def method(self: Tensor, *sizes: Any) -> Tensor:
        return function(self, sizes[0] if len(sizes) == 1 and not isinstance(sizes[0], int) else sizes or None)

    method.__name__, method.__doc__ = function.op.name, function.__doc__
    return method


def _to(self: Tensor, device: str | None = None, dtype: Any = None) -> Tensor:
    """Returns the tensor on another device or in another dtype (itself if nothing changes)."""
    out = self if dtype is None or self.dtype == dtype else astype(self, dtype)
    return out if device is None or parse_device(out.device) == parse_device(device) else to_device(out, device)


for _name, _symbol, _op in (
    ("add", "+", add), ("sub", "-", subtract), ("mul", "*", multiply),
    ("truediv", "/", divide), ("pow", "**", power), ("matmul", "@", matmul), ("and", "&", bitwise_and), ("or", "|", bitwise_or),
    ("mod", "%", remainder), ("floordiv", "//", floor_divide),
):  # fmt: skip
    setattr(Tensor, f"__{_name}__", _op)
    setattr(Tensor, f"__r{_name}__", _reflected(_op))
    setattr(Tensor, f"__i{_name}__", _in_place(_op, f"{_symbol}="))
for _name, _op in {
    "neg": negative, "abs": abs, "invert": invert, "eq": equal, "ne": not_equal, "lt": less, "le": less_equal, "gt": greater, "ge":
    greater_equal,
}.items():  # fmt: skip
    setattr(Tensor, f"__{_name}__", _op)
for _op in (
    all, any, argmax, argmin, argsort, astype, broadcast_to, clip, cumsum, dropout, exp, expand_dims, flatten, gelu, log, log_softmax,
    logsumexp, max, mean, min, prod, relu, repeat, round, sigmoid, silu, softmax, split, sqrt, squeeze, std, sum, swapaxes, take,
    tanh, var,
):  # fmt: skip
    setattr(Tensor, _op.op.name, _op)
for _name, _value in {
    "__getitem__": lambda self, key: getitem(self, raw_index(key)),
    "reshape": _several(reshape),
    "transpose": _several(transpose),
    "T": property(transpose),
    "to": _to,
}.items():
    setattr(Tensor, _name, _value)

register_tensor_namespace(Tensor, _sys.modules[__name__])
