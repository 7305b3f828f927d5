"""Compares a tinylm module with its PyTorch twin: same state, same inputs, same cotangents, same dropout masks."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from tinylm.engine.random_keys import Generator
from tinylm.engine.tensor import Tensor
from tinylm.nn import Module
from tinylm.ops.dropout import keep_mask
from tinylm.verify.reports import joint_norm, relative_error

TOLERANCES = {"float64": 1e-10, "float32": 1e-5}


def randomise(module: torch.nn.Module, rng: np.random.Generator) -> None:
    """Changes every parameter a little, so that biases are not zero and layers differ. Saturated layers would amplify
    the rounding of float32 beyond 10⁻⁵, in PyTorch as in tinylm."""
    with torch.no_grad():
        for p in module.parameters():
            p += torch.from_numpy(rng.standard_normal(tuple(p.shape)) * 0.1)


def load_twin(ours: Module, theirs: torch.nn.Module, dtype: str) -> None:
    """Converts both to dtype and loads the state dict of theirs into ours, unchanged; names, order and shapes must be equal."""
    theirs.to(getattr(torch, dtype))
    ours.to(dtype=dtype)
    state = theirs.state_dict()
    assert [(k, v.shape) for k, v in ours.state_dict().items()] == [(k, tuple(v.shape)) for k, v in state.items()]
    ours.load_state_dict(state)


def assert_parity(
    ours: Module,
    theirs: torch.nn.Module,
    inputs: Sequence[np.ndarray],
    *,
    masks: Mapping[str, np.ndarray | None] | None = None,
    settings: Mapping[str, Any] | None = None,
    call: Callable[..., Any] | None = None,
    dtype: str = "float64",
    seed: int = 0,
) -> None:
    """Loads the state of theirs into ours, then compares every output and, under random cotangents, the gradient of every named parameter
    and of every floating input.

    masks are passed by name without gradients, settings by name as they are; call(module, *inputs,
    **named) stands for module(*inputs, **named).
    """
    rng = np.random.default_rng((seed, 1))  # not the stream that the inputs may come from
    load_twin(ours, theirs, dtype)
    theirs.zero_grad()
    ours.zero_grad()
    call = call or (lambda module, *args, **named: module(*args, **named))
    arrays = [x.astype(dtype) if x.dtype.kind == "f" else x for x in inputs]
    named = {k: m if m is None or m.dtype.kind != "f" else m.astype(dtype) for k, m in (masks or {}).items()}
    settings = dict(settings or {})

    our_inputs = [Tensor(x, requires_grad=x.dtype.kind == "f") for x in arrays]
    their_inputs = [torch.tensor(x, requires_grad=x.dtype.kind == "f") for x in arrays]
    outputs = _flat(call(ours, *our_inputs, **named, **settings))
    expected = _flat(call(theirs, *their_inputs, **{k: None if m is None else torch.tensor(m) for k, m in named.items()}, **settings))
    assert len(outputs) == len(expected)
    results = {f"output {i}": (y.data, r.detach().numpy()) for i, (y, r) in enumerate(zip(outputs, expected, strict=True))}
    assert_close(results, TOLERANCES[dtype])

    for y, r in zip(outputs, expected, strict=True):
        cotangent = rng.standard_normal(y.shape).astype(dtype)
        y.backward(cotangent, retain_graph=True)
        r.backward(torch.tensor(cotangent), retain_graph=True)
    their_parameters = dict(theirs.named_parameters())
    gradients = {name: (p.grad, their_parameters[name].grad.numpy()) for name, p in ours.named_parameters()}
    for i, (x, t) in enumerate(zip(our_inputs, their_inputs, strict=True)):
        if x.requires_grad:
            gradients[f"input {i}"] = (x.grad, t.grad.numpy())
    assert_close(gradients, TOLERANCES[dtype])


def relative_errors(compared: Mapping[str, tuple[Any, np.ndarray]]) -> dict[str, float]:
    """Returns the relative error of each pair by name; the second of each pair is the reference."""
    scale = joint_norm([b for _, b in compared.values()])
    return {name: relative_error(a, b, scale) for name, (a, b) in compared.items()}


def assert_close(compared: Mapping[str, tuple[Any, np.ndarray]], tolerance: float | Mapping[str, float]) -> None:
    """Asserts that the pairs are equal in dtype and shape, and in value to the relative tolerance (or to that of each name); the
    second of each pair is the reference."""
    for name, (a, b) in compared.items():
        assert a is not None, f"{name} has no gradient"
        assert a.dtype == b.dtype, name
        assert a.shape == b.shape, name
    for name, error in relative_errors(compared).items():
        assert error <= (tolerance[name] if isinstance(tolerance, Mapping) else tolerance), f"{name}: relative error {error:.2e}"


def _flat(out: Any) -> list[Any]:
    return [y for y in (out if isinstance(out, tuple) else (out,)) if y is not None]


# ---------------------------------------------------------------- dropout


class ReplayedDropout(torch.nn.Module):
    """x m / (1 - p) with the next mask of a tinylm generator."""

    def __init__(self, p: float, generator: Generator) -> None:
        super().__init__()
        self.p, self.generator = p, generator

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        like = np.empty(0, str(x.dtype).removeprefix("torch."))
        return x * torch.tensor(keep_mask(like, tuple(x.shape), self.p, self.generator.next_key()))


class ComposedAttention(torch.nn.MultiheadAttention):
    """Multi-head attention composed of products, softmax and mask, sequence first, with floating masks."""

    weights_dropout: ReplayedDropout

    def forward(self, query: Any, key: Any, value: Any, key_padding_mask: Any = None, attn_mask: Any = None, **_: Any) -> Any:
        def heads(x: Any, i: int) -> Any:
            part = slice(i * self.embed_dim, (i + 1) * self.embed_dim)
            x = torch.nn.functional.linear(x, self.in_proj_weight[part], self.in_proj_bias[part])
            return x.reshape(*x.shape[:2], self.num_heads, self.head_dim).permute(1, 2, 0, 3)

        scores = heads(query, 0) @ heads(key, 1).mT / math.sqrt(self.head_dim)
        if attn_mask is not None:
            scores = scores + attn_mask
        if key_padding_mask is not None:
            scores = scores + key_padding_mask[:, None, None]
        weights = self.weights_dropout(torch.softmax(scores, -1))
        y = (weights @ heads(value, 2)).permute(2, 0, 1, 3).reshape(query.shape)
        return self.out_proj(y), weights


def replay_dropout(theirs: torch.nn.Module, generator: Generator) -> torch.nn.Module:
    """Makes every dropout in theirs draw its masks from the generator. Attention is replaced by its composed form,
    since PyTorch's takes no dropout mask. Set tinylm's generator state before each call."""
    for module in list(theirs.modules()):
        if isinstance(module, torch.nn.MultiheadAttention):
            module.__class__ = ComposedAttention
            object.__setattr__(module, "weights_dropout", ReplayedDropout(module.dropout, generator))
        for name, child in list(module.named_children()):
            if isinstance(child, torch.nn.Dropout):
                setattr(module, name, ReplayedDropout(child.p, generator))
    return theirs


def leaf(values: Any, dtype: str = "float64") -> Tensor:
    """Returns a tensor with these values that requires a gradient."""
    return Tensor(np.array(values, dtype), requires_grad=True)
