"""Compares an op with its PyTorch reference: values, gradients, and gradients of gradients. Importing this file imports PyTorch."""

import numpy as np

from tinylm import ops
from tinylm.engine.kernels import registry
from tinylm.engine.tensor import Tensor
from tinylm.errors import ShapeError
from tinylm.verify.arguments import as_tensors, members
from tinylm.verify.compared_arrays import TOLERANCES, compared_arrays
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
        (f"{kind} of argument {i}", x, t)
        for i, (x, t) in enumerate(zip(members(ours[:count]), members(theirs[:count]), strict=True))
        if isinstance(x, Tensor) and x.requires_grad
    ]
    values = [(f"output {i}", a.numpy(), b.numpy(force=True)) for i, (a, b) in enumerate(zip(y, r, strict=True))] if order == 1 else []
    rows = [*compared_arrays(values), *compared_arrays(paired_gradients(wanted, y, r, np.random.default_rng(seed), order))]
    tolerance = SECOND_ORDER_TOLERANCE if order == 2 else TOLERANCES[dtype]
    return Report(f"{name}, {sample.note} ({f'order {order}' if dtype == 'float64' else dtype})", tolerance, tuple(rows))
