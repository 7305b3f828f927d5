"""Cross-entropy over the last axis."""

from tinylm.bindings.cuda.launching import CudaSource, contiguous, row_threads
from tinylm.checks import check_fraction, check_integer
from tinylm.engine.arrays import array_module
from tinylm.engine.ids import place_of_check
from tinylm.engine.kernels import kernel

_CROSS_ENTROPY = CudaSource("cross_entropy")
_TOTAL_THREADS = 1024


@kernel("cross_entropy", device="cuda")
def cross_entropy(logits, targets, /, *, weight=None, ignore_index=-100, label_smoothing=0.0, reduction="mean"):
    if weight is not None or targets.dtype.kind not in "iu" or targets.shape != logits.shape[:-1] or 0 in logits.shape[-1:]:
        return NotImplemented
    if logits.ndim == 0 or reduction not in ("mean", "sum", "none"):
        return NotImplemented
    if type(ignore_index) is not int:
        ignore_index = check_integer("ignore_index", ignore_index)
    if type(label_smoothing) is not float or not 0 <= label_smoothing <= 1:
        label_smoothing = check_fraction("label_smoothing", label_smoothing)
    xp = array_module(logits)
    shape, classes = logits.shape, logits.shape[-1]
    z = contiguous(logits).reshape(-1, classes)
    found = place_of_check(targets, classes, "target")
    ids = contiguous(targets, xp.int64).reshape(-1)
    rows, block = z.shape[0], (row_threads(classes),)
    losses, shift, log_total = (xp.empty(rows, z.dtype) for _ in range(3))
    _CROSS_ENTROPY.launch(
        "cross_entropy_forward", (rows,), block, z, ids, losses, shift, log_total, classes, ignore_index, label_smoothing, found
    )  # fmt: skip
    count = None
    if reduction == "none":
        value = losses.reshape(targets.shape)
    else:
        value, total = xp.empty((), z.dtype), xp.empty((), z.dtype)
        mean = reduction == "mean"
        _CROSS_ENTROPY.launch("cross_entropy_total", (1,), (_TOTAL_THREADS,), losses, ids, value, total, rows, ignore_index, mean)
        count = total if mean else None

    def vjp(dy):
        dz = xp.empty_like(z)
        _CROSS_ENTROPY.launch(
            "cross_entropy_backward", (rows,), block, z, ids, shift, log_total, contiguous(dy, z.dtype), reduction == "none", count,
            dz, classes, ignore_index, label_smoothing,
        )  # fmt: skip
        return dz.reshape(shape), None

    return value, vjp
