"""An op beside its PyTorch reference: values, gradients, and gradients of gradients.

PyTorch is imported when a comparison is made, so tinylm.verify itself does not need it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinylm import ops
from tinylm.engine.devices import to_device
from tinylm.engine.grad import grad
from tinylm.engine.kernels import registry
from tinylm.engine.tensor import Tensor
from tinylm.errors import ShapeError
from tinylm.verify.batches import as_tensors, members
from tinylm.verify.compared_arrays import TOLERANCES, together
from tinylm.verify.jacobians import flatten
from tinylm.verify.reports import Report
from tinylm.verify.samples import Sample
from tinylm.verify.torch.reference import to_torch, torch_reference

SECOND_ORDER_TOLERANCE = 1e-9  # in float64


def compare_op(name: str, sample: Sample, *, order: int = 1, device: str = "cpu", dtype: str = "float64", seed: int = 0) -> Report:
    """An op beside its PyTorch reference on one sample: values and the gradients under random cotangents.

    With order 2 instead the gradients of those gradients, in the arguments and in the cotangent, by
    `create_graph` and by PyTorch's double backward. Tolerance: 1e-10 in float64, 1e-9 for order 2,
    1e-5 in float32. Errors: ShapeError when the outputs differ in number or shape.
    """
    count = registry[name].count  # behind the arrays come settings by position
    ours = [as_tensors(a, device, dtype) for a in sample.args]
    theirs = [*(to_torch(a, dtype) for a in sample.args[:count]), *sample.args[count:]]
    y = list(members(getattr(ops, name)(*ours, **sample.settings)))
    r = list(members(torch_reference(name)(*theirs, **sample.settings)))
    shapes, expected = [t.shape for t in y], [tuple(t.shape) for t in r]
    if shapes != expected:
        raise ShapeError(f"the outputs have shapes {shapes}, PyTorch's {expected}")
    values = [(f"output {i}", a.numpy(), b.numpy(force=True)) for i, (a, b) in enumerate(zip(y, r, strict=True))]
    wanted = [
        (f"argument {i}", x, t)
        for i, (x, t) in enumerate(zip(members(ours[:count]), members(theirs[:count]), strict=True))
        if isinstance(x, Tensor) and x.requires_grad
    ]
    names = [f"{'second ' * (order == 2)}gradient of {label}" for label, _, _ in wanted]
    gradients = together(_gradients(names, y, r, [x for _, x, _ in wanted], [t for _, _, t in wanted], order, np.random.default_rng(seed)))
    tolerance = SECOND_ORDER_TOLERANCE if order == 2 else TOLERANCES[dtype]
    title = f"{name}, {sample.note} ({f'order {order}' if dtype == 'float64' else dtype})"
    return Report(title, tolerance, tuple(gradients if order == 2 else [*together(values), *gradients]))


def _gradients(
    names: list[str], y: list[Any], r: list[Any], xs: list[Any], ts: list[Any], order: int, rng: np.random.Generator
) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """The gradients of cᵀ (all floating outputs) for a random c, or of c'ᵀ (those gradients)."""
    import torch

    floating = [i for i, t in enumerate(y) if t.dtype.kind == "f"]
    if not floating or not xs:
        return []
    joined, expected = flatten([y[i] for i in floating]), torch.cat([r[i].reshape(-1) for i in floating])
    for level in range(1, order + 1):
        c = rng.standard_normal(joined.size).astype(joined.dtype)
        cotangent = Tensor(to_device(c, joined.device), requires_grad=True)
        their_cotangent = torch.tensor(c, requires_grad=True)
        again = level < order
        ours = grad(joined, xs, cotangent, create_graph=again) if joined.requires_grad else [None] * len(xs)
        theirs: Sequence[Any] = [None] * len(xs)
        if expected.requires_grad:
            theirs = torch.autograd.grad(expected, ts, their_cotangent, create_graph=again, allow_unused=True)
        if again:
            joined = flatten([x * 0 if g is None else g for g, x in zip(ours, xs, strict=True)])
            expected = torch.cat([(t * 0 if g is None else g).reshape(-1) for g, t in zip(theirs, ts, strict=True)])
            names, xs, ts = [*names, "second gradient of the cotangent"], [*xs, cotangent], [*ts, their_cotangent]
    zeros = [np.zeros(x.shape, x.dtype) for x in xs]
    return [
        (name, z if g is None else g.numpy(), z if h is None else h.numpy(force=True))
        for name, z, g, h in zip(names, zeros, ours, theirs, strict=True)
    ]
