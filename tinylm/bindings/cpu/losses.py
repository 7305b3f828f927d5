"""Cross-entropy over the last axis."""

import numpy as np

from tinylm.bindings.cpu.library import call, contiguous, library
from tinylm.checks import check_fraction, check_integer
from tinylm.engine.ids import check_ids
from tinylm.engine.kernels import kernel


@kernel("cross_entropy", device="cpu")
def cross_entropy(logits, targets, /, *, weight=None, ignore_index=-100, label_smoothing=0.0, reduction="mean"):
    if weight is not None or targets.dtype.kind not in "iu" or targets.shape != logits.shape[:-1] or 0 in logits.shape[-1:]:
        return NotImplemented
    if logits.ndim == 0 or reduction not in ("mean", "sum", "none") or library() is None:
        return NotImplemented
    if type(ignore_index) is not int:
        ignore_index = check_integer("ignore_index", ignore_index)
    if type(label_smoothing) is not float or not 0 <= label_smoothing <= 1:
        label_smoothing = check_fraction("label_smoothing", label_smoothing)
    rows, classes = targets.size, logits.shape[-1]
    z, ids = contiguous(logits), np.ascontiguousarray(targets, np.int64)
    kept, losses = np.empty((2, rows), np.float32), np.empty(targets.shape, np.float32)
    value, count = np.empty((), np.float32), np.empty((), np.float32)
    common = rows, classes, z, ids, ignore_index, label_smoothing
    if not call("cross_entropy_forward", *common, reduction == "mean", kept, losses, value, count):
        check_ids(targets * (targets != ignore_index), classes, "target")

    def vjp(dy):
        dz = np.empty(logits.shape, np.float32)
        divisor = float(count) if reduction == "mean" else 1.0
        call("cross_entropy_backward", *common, kept, contiguous(dy), reduction != "none", divisor, dz)
        return dz, None

    return losses if reduction == "none" else value, vjp
