"""Layer norm and RMS norm."""

from tinylm.bindings.cuda.launching import CudaSource, contiguous, row_threads
from tinylm.bindings.cuda.reductions import TILE, chunks, column_sums, tiles
from tinylm.engine.arrays import array_module
from tinylm.engine.kernels import kernel

_LAYER_NORM, _RMS_NORM = CudaSource("layer_norm"), CudaSource("rms_norm")


def _serves(x, *parameters):
    """Returns whether x has a last axis and every parameter that is not None has its length."""
    return x.ndim > 0 and x.shape[-1] > 0 and all(p is None or p.shape == x.shape[-1:] for p in parameters)


@kernel("layer_norm", device="cuda")
def layer_norm(x, weight=None, bias=None, /, *, eps=1e-5):
    if not _serves(x, weight, bias):
        return NotImplemented
    xp = array_module(x)
    shape, columns = x.shape, x.shape[-1]
    x = contiguous(x).reshape(-1, columns)
    weight, bias = (None if p is None else contiguous(p) for p in (weight, bias))
    rows, block = x.shape[0], (row_threads(columns),)
    y, mean, rstd = xp.empty_like(x), xp.empty(rows, x.dtype), xp.empty(rows, x.dtype)
    _LAYER_NORM.launch("layer_norm_forward", (rows,), block, x, weight, bias, y, mean, rstd, columns, eps)

    def vjp(dy):
        dy = contiguous(dy, x.dtype).reshape(x.shape)
        dx = xp.empty_like(x)
        _LAYER_NORM.launch("layer_norm_backward", (rows,), block, x, weight, mean, rstd, dy, dx, columns)
        dx = dx.reshape(shape)
        if weight is None:
            return dx, None, None if bias is None else column_sums(dy)
        count, size = chunks(rows)
        dweight, dbias = xp.empty((count, columns), x.dtype), xp.empty((count, columns), x.dtype)
        _LAYER_NORM.launch(
            "layer_norm_parameters", (tiles(columns), count), TILE, x, mean, rstd, dy, dweight, dbias, rows, columns, size
        )  # fmt: skip
        return dx, column_sums(dweight), None if bias is None else column_sums(dbias)

    return y.reshape(shape), vjp


@kernel("rms_norm", device="cuda")
def rms_norm(x, weight=None, /, *, eps=1e-6):
    if not _serves(x, weight):
        return NotImplemented
    xp = array_module(x)
    shape, columns = x.shape, x.shape[-1]
    x = contiguous(x).reshape(-1, columns)
    weight = None if weight is None else contiguous(weight)
    rows, block = x.shape[0], (row_threads(columns),)
    y, rrms = xp.empty_like(x), xp.empty(rows, x.dtype)
    _RMS_NORM.launch("rms_norm_forward", (rows,), block, x, weight, y, rrms, columns, eps)

    def vjp(dy):
        dy = contiguous(dy, x.dtype).reshape(x.shape)
        dx = xp.empty_like(x)
        _RMS_NORM.launch("rms_norm_backward", (rows,), block, x, weight, rrms, dy, dx, columns)
        dx = dx.reshape(shape)
        if weight is None:
            return dx, None
        count, size = chunks(rows)
        dweight = xp.empty((count, columns), x.dtype)
        _RMS_NORM.launch("rms_norm_weight", (tiles(columns), count), TILE, x, rrms, dy, dweight, rows, columns, size)
        return dx, column_sums(dweight)

    return y.reshape(shape), vjp
