"""Compares an op with its PyTorch reference: values, gradients, and gradients of gradients. Importing this file imports PyTorch."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinylm import ops
from tinylm.engine.kernels import registry
from tinylm.engine.tensor import Tensor
from tinylm.errors import ShapeError
from tinylm.verify.arguments import as_tensors, members
from tinylm.verify.compared_arrays import TOLERANCES, compared_arrays
from tinylm.verify.inputs import argument_names
from tinylm.verify.reports import Report
from tinylm.verify.samples import Sample
from tinylm.verify.torch.gradients import paired_gradients
from tinylm.verify.torch.reference import in_torch, torch_reference

SECOND_ORDER_TOLERANCE = 1e-9  # in float64


def compare_op(name: str, sample: Sample, *, order: int = 1, device: str = "cpu", dtype: str = "float64", seed: int = 0) -> Report:
    """Compares an op with its PyTorch reference on one sample: values, and gradients under random cotangents.

    With order 2 it compares the gradients of those gradients instead, in the arguments and in the cotangent, by
    `create_graph` and by PyTorch's double backward. Tolerance: 1e-10 in float64, 1e-9 for order 2,
    1e-5 in float32. Raises ShapeError if the outputs differ in number or shape.
    """
    count = registry[name].count  # the arrays come first, then settings by position
    ours = [as_tensors(a, device, dtype) for a in sample.args]
    theirs = [*(in_torch(a, dtype) for a in sample.args[:count]), *sample.args[count:]]
    y = list(members(getattr(ops, name)(*ours, **sample.settings)))
    r = list(members(torch_reference(name)(*theirs, **sample.settings)))
    shapes, expected = [t.shape for t in y], [tuple(t.shape) for t in r]
    if shapes != expected:
        raise ShapeError(f"the outputs have shapes {shapes}, PyTorch's {expected}")
    kind = "second gradient" if order == 2 else "gradient"
    wanted = [
        (f"{kind} of {label}", x, t)
        for label, x, t in zip(_labels(name, ours[:count]), members(ours[:count]), members(theirs[:count]), strict=True)
        if isinstance(x, Tensor) and x.requires_grad
    ]
    values = [(f"output {i}", a.numpy(), b.numpy(force=True)) for i, (a, b) in enumerate(zip(y, r, strict=True))] if order == 1 else []
    rows = [*compared_arrays(values), *compared_arrays(paired_gradients(wanted, y, r, np.random.default_rng(seed), order))]
    tolerance = SECOND_ORDER_TOLERANCE if order == 2 else TOLERANCES[dtype]
    return Report(f"{name}, {sample.note} ({f'order {order}' if dtype == 'float64' else dtype})", tolerance, tuple(rows))


def _labels(name: str, args: Sequence[Any]) -> list[str]:
    """Returns "x (argument 0)" and so on for the members of an op's arguments."""
    found = []
    for i, (called, x) in enumerate(zip(argument_names(getattr(ops, name), len(args)), args, strict=True)):
        several = list(members(x))
        parts = [f"[{j}]" if isinstance(x, list | tuple) else "" for j in range(len(several))]
        found += [f"{called}{part} (argument {i})" if called != f"argument {i}" else f"argument {i}{part}" for part in parts]
    return found
