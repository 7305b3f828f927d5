"""Moves a tensor between devices, as an op with a gradient."""

from tinylm.engine import devices
from tinylm.engine.arrays import constant
from tinylm.engine.op import op
from tinylm.engine.tensor import Tensor


@op
def to_device(x, /, device):
    """The same values on `device`.  dx = dy moved back."""
    home = devices.device_of(constant(x))
    return _moved(x, device), lambda dy: (_moved(dy, home),)


def _moved(a, device):
    """Moves an array; by the op itself where the body runs again on tensors, for derivatives of derivatives."""
    return to_device(a, device) if isinstance(a, Tensor) else devices.to_device(a, device)
