"""The value that every op should give, computed with PyTorch. Importing this file imports PyTorch.

Each reference takes PyTorch tensors and settings as the op takes arrays and settings; it is composed of
PyTorch's elementary functions where PyTorch has no such function.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from tinylm.errors import ConfigError
from tinylm.ops.dropout import keep_mask
from tinylm.verify.arguments import mapped

references: dict[str, Callable[..., Any]] = {}


def torch_reference(name: str) -> Callable[..., Any]:
    """Returns the function of PyTorch tensors that the op `name` should equal. Raises ConfigError for an op without one."""
    if name not in references:
        raise ConfigError(f"op {name!r} has no PyTorch reference: add one to tinylm/verify/torch/reference.py")
    return references[name]


def in_torch(x: Any, dtype: str) -> Any:
    """Returns x with PyTorch tensors for its arrays, also inside lists and tuples; floating ones are in `dtype` and require a gradient."""

    def tensor(a: np.ndarray) -> torch.Tensor:
        return torch.tensor(a, dtype=getattr(torch, dtype), requires_grad=True) if a.dtype.kind == "f" else torch.tensor(a)

    return mapped(x, tensor)


def reference(function: Callable[..., Any]) -> Callable[..., Any]:
    """Registers a reference under its own name."""
    references[function.__name__.strip("_")] = function
    return function


# ---------------------------------------------------------------- element by element

references |= {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: torch.subtract(*_both(a, b)),
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "power": lambda a, b: a**b,
    "maximum": lambda a, b: torch.maximum(*_both(a, b)),
    "minimum": lambda a, b: torch.minimum(*_both(a, b)),
    "floor_divide": lambda a, b: torch.div(*_both(a, b), rounding_mode="floor"),
    "invert": lambda x: ~x,
    "where": lambda c, a, b: torch.where(c, *_both(a, b)),
    "clip": lambda x, a_min=None, a_max=None: torch.clamp(x, *(_both(x, b)[1] if b is not None else None for b in (a_min, a_max))),
    "negative": lambda x: -x,
    "identity": lambda x: x * 1,
    "gelu": lambda x, approximate="none": F.gelu(x, approximate=approximate),
    "silu": F.silu,
    "elu": lambda x, alpha=1.0: F.elu(x, alpha),
    "leaky_relu": lambda x, negative_slope=0.01: F.leaky_relu(x, negative_slope),
    "softplus": lambda x: -F.logsigmoid(-x),  # F.softplus is x itself from 20 on
    "swiglu": lambda a, b: F.silu(a) * b,
    "to_device": lambda x, device: x * 1,
    "astype": lambda x, dtype: x.to(getattr(torch, dtype)),
    "dropout": lambda x, p=0.5, *, key: x * _mask(x, p, key),
}
SAME_NAME = (
    "abs", "cos", "erf", "erfc", "exp", "expm1", "floor", "isfinite", "isnan", "log", "log1p", "ones_like", "relu", "round",
    "sigmoid", "sign", "sin", "sqrt", "square", "tanh", "zeros_like",
)  # fmt: skip
references |= {name: lambda x, name=name: getattr(torch, name)(x) for name in SAME_NAME}
references |= {
    name: lambda a, b, name=name: getattr(torch, name)(*_both(a, b))
    for name in ("eq", "ne", "less", "less_equal", "greater", "greater_equal", "bitwise_and", "bitwise_or", "remainder")
}
references["equal"], references["not_equal"] = references.pop("eq"), references.pop("ne")


def _both(a: Any, b: Any) -> tuple[Any, Any]:
    """Returns both as tensors of one dtype: torch.maximum takes no numbers."""
    dtype = next(x.dtype for x in (a, b) if isinstance(x, torch.Tensor))
    if all(isinstance(x, torch.Tensor) for x in (a, b)):
        dtype = torch.promote_types(a.dtype, b.dtype)
    return torch.as_tensor(a, dtype=dtype), torch.as_tensor(b, dtype=dtype)


def _mask(x: Any, p: float, key: tuple[int, int]) -> Any:
    """Returns tinylm's dropout mask for x, which PyTorch's generator cannot make."""
    return torch.from_numpy(keep_mask(np.zeros(0), tuple(x.shape), p, key)).to(x.dtype)


# ---------------------------------------------------------------- reductions


def _axes(x: Any, axis: Any) -> tuple[int, ...]:
    return tuple(range(x.ndim)) if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)


references |= {
    "sum": lambda x, axis=None, keepdims=False: x.sum(_axes(x, axis), keepdim=keepdims),
    "mean": lambda x, axis=None, keepdims=False: x.mean(_axes(x, axis), keepdim=keepdims),
    "max": lambda x, axis=None, keepdims=False: x.amax(_axes(x, axis), keepdim=keepdims),
    "min": lambda x, axis=None, keepdims=False: x.amin(_axes(x, axis), keepdim=keepdims),
    "logsumexp": lambda x, axis=None, keepdims=False: torch.logsumexp(x, _axes(x, axis), keepdim=keepdims),
    "var": lambda x, axis=None, *, ddof=0, keepdims=False: (
        x.var(_axes(x, axis), correction=ddof, keepdim=keepdims) if x.numel() else x.sum(_axes(x, axis), keepdim=keepdims)
    ),
    "std": lambda x, axis=None, *, ddof=0, keepdims=False: (
        x.std(_axes(x, axis), correction=ddof, keepdim=keepdims) if x.numel() else x.sum(_axes(x, axis), keepdim=keepdims)
    ),
    "prod": lambda x, axis=None, keepdims=False: _product(x, sorted(i % max(x.ndim, 1) for i in _axes(x, axis)), keepdims),
    "softmax": lambda x, axis=-1: torch.softmax(x, axis),
    "log_softmax": lambda x, axis=-1: torch.log_softmax(x, axis),
    "argmax": lambda x, axis=None, keepdims=False: _first(x, axis, keepdims, lambda x: x.amax),
    "argmin": lambda x, axis=None, keepdims=False: _first(x, axis, keepdims, lambda x: x.amin),
    "any": lambda x, axis=None, keepdims=False: torch.any(x != 0, _axes(x, axis), keepdim=keepdims),
    "all": lambda x, axis=None, keepdims=False: torch.all(x != 0, _axes(x, axis), keepdim=keepdims),
    "sort": lambda x, axis=-1: torch.sort(x, dim=axis, stable=True)[0],
    "argsort": lambda x, axis=-1: torch.argsort(x, dim=axis, stable=True),
    "topk": lambda x, k, axis=-1: [part.narrow(axis, 0, k) for part in torch.sort(x, dim=axis, stable=True, descending=True)],
    "cumsum": lambda x, axis=None: x.reshape(-1).cumsum(0) if axis is None else x.cumsum(axis),
}


def _product(x: Any, axes: Sequence[int], keepdims: bool) -> Any:
    for i in reversed(axes):
        x = x.prod(i, keepdim=keepdims)
    return x


def _first(x: Any, axis: Any, keepdims: bool, extreme: Callable[..., Any]) -> Any:
    """Returns the first position of an extreme, which torch.argmax does not promise."""
    here = x.detach() == extreme(x.detach())(_axes(x, axis), keepdim=True)
    if axis is None:
        return here.reshape(-1).int().argmax().reshape([1] * x.ndim if keepdims else [])
    return here.int().cumsum(axis).eq(1).logical_and(here).int().argmax(axis, keepdim=keepdims)


# ---------------------------------------------------------------- shapes and lookups


references |= {
    "reshape": lambda x, shape: x.reshape(shape),
    "transpose": lambda x, axes=None: x.permute(tuple(range(x.ndim))[::-1] if axes is None else axes),
    "swapaxes": lambda x, axis1, axis2: x.transpose(axis1, axis2),
    "expand_dims": lambda x, axis: x.reshape(np.expand_dims(np.empty(x.shape), axis).shape),
    "squeeze": lambda x, axis=None: x.squeeze() if axis is None else x.squeeze(axis),
    "broadcast_to": lambda x, shape: x.expand(shape),
    "flatten": lambda x, start_axis=0, end_axis=-1: x.flatten(start_axis, end_axis),
    "repeat": lambda x, repeats, axis=None: torch.repeat_interleave(x, torch.as_tensor(repeats), axis),
    "tile": lambda x, reps: x.tile(reps if isinstance(reps, (tuple, list)) else (reps,)),
    "roll": lambda x, shift, axis=None: x.reshape(-1).roll(shift).reshape(x.shape) if axis is None else x.roll(shift, axis),
    "concatenate": lambda arrays, axis=0: torch.cat(arrays, axis),
    "stack": lambda arrays, axis=0: torch.stack(arrays, axis),
    "split": lambda x, where, axis=0: torch.tensor_split(x, where, axis),
    "pad": lambda x, widths, constant_values=0.0: F.pad(x, [n for pair in reversed(widths) for n in pair], value=constant_values),
    "getitem": lambda x, key: x.reshape(-1)[_positions(x.shape, key)],
    "scatter_add": lambda values, key, shape: _scattered(values, key, shape),
    "index_add": lambda x, values, key: x + _scattered(values, key, x.shape),
    "flip": lambda x, axis=None: x.flip(_axes(x, axis)),
    "tril": lambda x, k=0: x.tril(k),
    "triu": lambda x, k=0: x.triu(k),
    "one_hot": lambda ids, num_classes: F.one_hot(ids.long(), num_classes),
    "gather": lambda x, indices, axis: torch.gather(x, axis, indices),
    "take": lambda x, indices, axis=None: x.reshape(-1)[indices] if axis is None else x[(slice(None),) * (axis % x.ndim) + (indices,)],
    "take_along_axis": lambda x, indices, axis: torch.take_along_dim(x, indices, axis),
    "embedding": lambda ids, weight, padding_idx=None: F.embedding(ids, weight, padding_idx),
}


def _positions(shape: Any, key: Any) -> Any:
    """Returns the positions of x[key] in the flattened x, found by NumPy, since PyTorch has no negative steps."""
    return torch.from_numpy(np.array(np.arange(math.prod(shape)).reshape(tuple(shape))[key]))


def _scattered(values: Any, key: Any, shape: Any) -> Any:
    at = _positions(shape, key)
    zeros = torch.zeros(math.prod(shape), dtype=values.dtype)
    return zeros.index_put((at.reshape(-1),), values.reshape(-1), accumulate=True).reshape(shape)


# ---------------------------------------------------------------- products, norms, losses

references |= {
    "matmul": lambda a, b: a @ b,
    "rms_norm": lambda x, weight=None, *, eps=1e-6: F.rms_norm(x, x.shape[-1:], weight, eps),
    "cross_entropy": lambda logits, targets, **settings: _by_rows(F.cross_entropy, logits, targets, **settings),
    "nll_loss": lambda log_probabilities, targets, **settings: _by_rows(F.nll_loss, log_probabilities, targets, **settings),
    "binary_cross_entropy_with_logits": lambda logits, targets, **settings: F.binary_cross_entropy_with_logits(
        logits, targets, **_weights_in_torch(settings, logits)
    ),
}


@reference
def linear(x, weight, bias=None, residual=None, *, activation=None, frozen=False):
    if frozen:
        weight, bias = weight.detach(), None if bias is None else bias.detach()
    y = F.linear(x, weight, bias)
    if activation is not None:
        y = getattr(F, activation)(y)
    return y if residual is None else y + residual


@reference
def swiglu_linear(x, gate, up, gate_bias=None, up_bias=None, *, frozen=False):
    a, b = linear(x, gate, gate_bias, frozen=frozen), linear(x, up, up_bias, frozen=frozen)
    return F.silu(a) * b


@reference
def layer_norm(x, weight=None, bias=None, *, eps=1e-5):
    if weight is None and bias is not None:  # PyTorch has no second derivative of this case
        return F.layer_norm(x, x.shape[-1:], eps=eps) + bias
    return F.layer_norm(x, x.shape[-1:], weight, bias, eps)


@reference
def einsum(arrays, subscripts):
    return torch.einsum(subscripts.replace(" ", ""), *arrays)


def _by_rows(loss: Callable[..., Any], scores: Any, targets: Any, **settings: Any) -> Any:
    """Flattens the leading axes, since PyTorch has classes on axis 1."""
    rows = targets.reshape(-1, scores.shape[-1]) if targets.is_floating_point() else targets.reshape(-1)
    y = loss(scores.reshape(-1, scores.shape[-1]), rows, **_weights_in_torch(settings, scores))
    return y.reshape(scores.shape[:-1]) if settings.get("reduction") == "none" else y


def _weights_in_torch(settings: dict[str, Any], scores: Any) -> dict[str, Any]:
    """Returns the settings of a loss with PyTorch tensors of the scores' dtype for arrays of weights."""
    return {k: torch.tensor(v, dtype=scores.dtype) if isinstance(v, np.ndarray) else v for k, v in settings.items()}


# ---------------------------------------------------------------- attention and recurrence


@reference
def split_heads(x, parts, heads, *, batch_first=True):
    x = x if batch_first else x.transpose(0, 1)
    return [part.unflatten(-1, (heads, part.shape[-1] // heads)).transpose(1, 2) for part in x.chunk(parts, dim=-1)]


@reference
def merge_heads(y, *, batch_first=True):
    joined = y.transpose(1, 2).flatten(2)
    return joined if batch_first else joined.transpose(0, 1)


@reference
def rotary(x, frequencies, start=0, *, pairing="half"):
    """Computed as a product of complex numbers, and so independently of tinylm's formula."""
    angles = torch.arange(start, start + x.shape[-2], dtype=x.dtype)[:, None] * torch.tensor(frequencies, dtype=x.dtype)
    a, b = (x[..., ::2], x[..., 1::2]) if pairing == "interleaved" else x.chunk(2, -1)
    turned = torch.complex(a, b) * torch.polar(torch.ones_like(angles), angles)
    parts = turned.real, turned.imag
    return torch.stack(parts, -1).flatten(-2) if pairing == "interleaved" else torch.cat(parts, -1)


@reference
def rotary_heads(x, q, k, v, *biases, frequencies, start=0, pairing="half", frozen=False):
    made: list[Any] = []
    for weight, bias in zip((q, k, v), (*biases, None, None, None), strict=False):
        heads = linear(x, weight, bias, frozen=frozen).unflatten(-1, (-1, 2 * len(frequencies))).transpose(1, 2)
        made.append(heads if len(made) == 2 else rotary(heads, frequencies, start, pairing=pairing))
    return made


@reference
def scaled_dot_product_attention(q, k, v, mask=None, *, causal=False, dropout=0.0, scale=None, return_weights=False, key=None):
    """Product, mask, softmax and product, as in the paper, since PyTorch's own function cannot take tinylm's causal mask and
    dropout mask, nor return the weights."""
    if q.ndim > 2 and k.ndim > 2 and k.shape[-3] > 1:  # one head of k and v for several of q
        k, v = (x.repeat_interleave(max(1, q.shape[-3] // k.shape[-3]), -3) if x.shape[-3:-2] == k.shape[-3:-2] else x for x in (k, v))
    scores = q @ k.mT * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    allowed = torch.ones(scores.shape, dtype=torch.bool)
    if mask is not None and mask.dtype == torch.bool:
        allowed = allowed & mask
    elif mask is not None:
        scores = scores + mask
    if causal:
        steps, keys = scores.shape[-2:]
        allowed = allowed & torch.ones(steps, keys, dtype=torch.bool).tril(keys - steps)
    somewhere = allowed.any(-1, keepdim=True)  # a query that attends to no key gives zeros
    scores = scores.masked_fill(~allowed & somewhere, -math.inf)
    weights = torch.softmax(scores, -1) * somewhere
    if dropout:
        weights = weights * _mask(weights, dropout, key)
    return (weights @ v, weights) if return_weights else weights @ v


@reference
def rnn(x, w_ih, w_hh, b_ih=None, b_hh=None, h0=None, *, nonlinearity="tanh", **order):
    act, linear = getattr(torch, nonlinearity), F.linear

    def run(x, h):
        h, ys = h[0], []
        for x_t in x:
            h = act(linear(x_t, w_ih, b_ih) + linear(h, w_hh, b_hh))
            ys.append(h)
        return torch.stack(ys), h[None]

    return _sequences(run, x, _states(x, w_hh, h0), **order)


def _gated(layer: Callable[..., Any], x: Any, weights: Sequence[Any], states: list[Any], **order: Any) -> tuple[Any, ...]:
    given = [w for w in weights if w is not None]

    def run(x, *states):
        return layer(x, states if len(states) > 1 else states[0], given, len(given) == 4, 1, 0.0, False, False, False)

    return _sequences(run, x, states, **order)


@reference
def lstm(x, w_ih, w_hh, b_ih=None, b_hh=None, h0=None, c0=None, **order):
    return _gated(torch.lstm, x, (w_ih, w_hh, b_ih, b_hh), _states(x, w_hh, h0, c0), **order)


@reference
def gru(x, w_ih, w_hh, b_ih=None, b_hh=None, h0=None, **order):
    return _gated(torch.gru, x, (w_ih, w_hh, b_ih, b_hh), _states(x, w_hh, h0), **order)


def _states(x: Any, w_hh: Any, *states: Any) -> list[Any]:
    """Returns PyTorch's states (1, N, H) from (N, H) or None."""
    return [x.new_zeros(1, x.shape[1], w_hh.shape[1]) if s is None else s[None] for s in states]


def _sequences(run: Callable[..., Any], x: Any, states: list[Any], reverse: bool = False, lengths: Any = None) -> tuple[Any, ...]:
    """Calls run on the whole batch, or with lengths on each sequence by itself."""
    if lengths is not None:
        parts = [_sequences(run, x[:n, i : i + 1], [s[:, i : i + 1] for s in states], reverse) for i, n in enumerate(lengths.tolist())]
        padded = [F.pad(y, (0, 0, 0, 0, 0, len(x) - len(y))) for y, *_ in parts]
        return torch.cat(padded, 1), *(torch.cat(final) for final in zip(*(final for _, *final in parts), strict=True))
    y, *final = run(x.flip(0) if reverse else x, *states)
    return (y.flip(0) if reverse else y), *(s[0] for s in final)
