"""Layer norm and RMS norm."""

import math

from tinylm.bindings.cuda.launching import CudaSource, contiguous, row_threads
from tinylm.bindings.cuda.reductions import TILE, chunks, column_sums, tiles
from tinylm.checks import check_at_least
from tinylm.engine.arrays import array_module
from tinylm.engine.gradient_places import buffer_for, sum_so_far
from tinylm.engine.kernels import kernel

_LAYER_NORM, _RMS_NORM = CudaSource("layer_norm"), CudaSource("rms_norm")


@kernel("layer_norm", device="cuda", floats_only=True)
def layer_norm(x, weight=None, bias=None, /, *, eps=1e-5):
    return _norm(_LAYER_NORM, ("layer_norm_forward", "layer_norm_backward", "layer_norm_parameters"), 2, x, (weight, bias), eps)


@kernel("rms_norm", device="cuda", floats_only=True)
def rms_norm(x, weight=None, /, *, eps=1e-6):
    return _norm(_RMS_NORM, ("rms_norm_forward", "rms_norm_backward", "rms_norm_weight"), 1, x, (weight,), eps)


def _norm(file, names, statistics, x, parameters, eps):
    """Returns (value, vjp) by the kernels of these names: forward, backward, and the gradients of the weight and, if it is one of
    the `parameters`, the bias. statistics: the numbers of a row that the first keeps for the others, such as its mean."""
    if x.ndim == 0 or x.shape[-1] == 0 or any(p is not None and p.shape != x.shape[-1:] for p in parameters):
        return NotImplemented
    if type(eps) is not float or not 0 <= eps < math.inf:
        eps = check_at_least(0, "eps", eps)
    forward, backward, of_parameters = names
    xp = array_module(x)
    shape, columns = x.shape, x.shape[-1]
    given, x = x, contiguous(x).reshape(-1, columns)
    weight, *biases = parameters = [None if p is None else contiguous(p) for p in parameters]
    rows, block = x.shape[0], (row_threads(columns),)
    y, kept = xp.empty_like(x), [xp.empty(rows, x.dtype) for _ in range(statistics)]
    file.launch(forward, (rows,), block, x, *parameters, y, *kept, columns, eps)

    def vjp(dy):
        dy = contiguous(dy, x.dtype).reshape(x.shape)
        dx, arrived = xp.empty_like(x), sum_so_far(given)
        arrived = None if arrived is None else contiguous(arrived, x.dtype).reshape(x.shape)
        file.launch(backward, (rows,), block, x, weight, *kept, dy, arrived, dx, columns)
        dx = dx.reshape(shape)
        if weight is None:
            return dx, None, *(None if bias is None else column_sums(dy, buffer_for(bias)) for bias in biases)
        count, size = chunks(rows)
        places = [None if p is None else buffer_for(p) for p in parameters]
        partial = [place if place is not None and count == 1 else xp.empty((count, columns), x.dtype) for place in places]
        file.launch(of_parameters, (tiles(columns), count), TILE, x, *kept, dy, *partial, rows, columns, size)
        of_place = zip(parameters, partial, places, strict=True)
        return dx, *(None if p is None else d if d is place else column_sums(d, place) for p, d, place in of_place)

    return y.reshape(shape), vjp
