"""Which of a model's tensors holds a NaN or an infinity."""

from collections.abc import Iterable

import numpy as np

from tinylm.engine.arrays import array_module
from tinylm.engine.tensor import Tensor


def first_not_finite(named: Iterable[tuple[str, Tensor]]) -> str | None:
    """Returns which of these tensors is the first to hold a NaN or an infinity, with what and where; None if all are finite."""
    for name, tensor in named:
        x = tensor.data
        xp = array_module(x)
        if x.dtype.kind == "f" and not (finite := xp.isfinite(x)).all():
            at = np.unravel_index(int((~finite).argmax()), x.shape)
            what = "a NaN" if xp.isnan(x[at]) else "an infinity"
            return f"{name!r:.100} holds {what} at {[int(i) for i in at]}"
    return None
