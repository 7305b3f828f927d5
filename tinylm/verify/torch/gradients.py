"""The gradients of two functions side by side, one of tinylm and one of PyTorch, under the same random cotangents."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from tinylm.engine.devices import to_device
from tinylm.engine.grad import grad
from tinylm.engine.tensor import Tensor
from tinylm.verify.jacobians import flatten

Wanted = list[tuple[str, Any, Any]]  # the name of a gradient, the tensor of tinylm and that of PyTorch


def paired_gradients(
    wanted: Wanted, y: Sequence[Any], r: Sequence[Any], rng: np.random.Generator, order: int = 1
) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Returns (name, tinylm's, PyTorch's) for the gradients of cᵀ (all floating outputs) for a random c.

    y, r: the outputs of tinylm and of PyTorch. order 2: the gradients of c'ᵀ (those gradients), also in c.
    """
    floating = [i for i, t in enumerate(y) if t.dtype.kind == "f"]
    if not floating or not wanted:
        return []
    joined, expected = flatten([y[i] for i in floating]), torch.cat([r[i].reshape(-1) for i in floating])
    for level in range(1, order + 1):
        c = rng.standard_normal(joined.size).astype(joined.dtype)
        cotangent, their_cotangent = Tensor(to_device(c, joined.device), requires_grad=True), torch.tensor(c, requires_grad=True)
        again = level < order
        xs, ts = [x for _, x, _ in wanted], [t for _, _, t in wanted]
        ours: Sequence[Any] = [None] * len(xs)
        theirs: Sequence[Any] = [None] * len(ts)
        if joined.requires_grad:
            ours = grad(joined, xs, cotangent, create_graph=again)
        if expected.requires_grad:
            theirs = torch.autograd.grad(expected, ts, their_cotangent, create_graph=again, allow_unused=True)
        names = [name for name, _, _ in wanted]
        if again:
            joined = flatten([x * 0 if g is None else g for g, x in zip(ours, xs, strict=True)])
            expected = torch.cat([(t * 0 if g is None else g).reshape(-1) for g, t in zip(theirs, ts, strict=True)])
            wanted = [*wanted, ("second gradient of the cotangent", cotangent, their_cotangent)]
    zeros = [np.zeros(x.shape, x.dtype) for x in xs]
    return [
        (name, z if g is None else g.numpy(), z if h is None else h.numpy(force=True))
        for name, z, g, h in zip(names, zeros, ours, theirs, strict=True)
    ]
