"""The cotangent with which a walk from a tensor starts: given, or 1 for a single number."""

from typing import Any

import numpy as np

from tinylm.engine.arrays import Array, array_module, constant
from tinylm.engine.devices import device_of, make_current
from tinylm.errors import AutogradError, DeviceError, ShapeError


def seed_gradient(y: Any, gradient: Any) -> Array:
    """Returns the cotangent that the walk starts with: `gradient`, or 1 for a tensor with one element.

    Raises AutogradError if y has no graph or needs a cotangent, ShapeError or DeviceError if the cotangent does not fit y.
    """
    if not y.requires_grad:
        raise AutogradError(
            "backward on a tensor that does not depend on anything that requires a gradient: no parameter or tensor with "
            "requires_grad=True led to it, or it was computed under no_grad() or after detach()"
        )
    make_current(y.data)
    if gradient is None:
        if y.data.size != 1:
            reduced = "reduce it with .mean() or .sum(), or pass an array of that shape, backward(gradient)"
            raise AutogradError(f"backward on a tensor of shape {y.shape} needs a cotangent: only a scalar has an obvious one; {reduced}")
        return array_module(y.data).ones_like(y.data)
    if not hasattr(gradient, "shape"):
        gradient = array_module(y.data).asarray(gradient, y.dtype)  # a number, or nested lists
    if tuple(gradient.shape) != tuple(y.shape):
        raise ShapeError(f"the cotangent has shape {tuple(gradient.shape)}, the tensor {tuple(y.shape)}")
    if (device := device_of(constant(gradient))) != y.device:
        raise DeviceError(f"the cotangent is on {device}, the tensor on {y.device}")
    if isinstance(gradient, np.ndarray) and not gradient.dtype.isnative:
        return gradient.astype(gradient.dtype.newbyteorder("="))
    return gradient
