"""Rotary position embedding of heads in place."""

from tinylm.bindings.cuda.heads import restored, strided, strides
from tinylm.bindings.cuda.launching import CudaSource, Strided, row_threads
from tinylm.engine.arrays import array_module
from tinylm.engine.kernels import kernel
from tinylm.ops.rotary_angles import cos_and_sin

_ROTARY = CudaSource("rotary")


@kernel("rotary", device="cuda")
def rotary(x, /, frequencies, start=0, *, pairing="half"):
    if not 2 <= x.ndim <= 4:
        return NotImplemented
    xp, dtype = array_module(x), x.dtype
    cos, sin = cos_and_sin(x, frequencies, start, pairing)
    interleaved = pairing == "interleaved"

    def turned(x, sign):
        ndim, x = x.ndim, strided(x, dtype)
        batch, heads, steps, width = x.shape
        y, pairs = xp.empty((batch, steps, heads, width), dtype), width // 2
        sizes = heads, steps, pairs, *strides(x)
        _ROTARY.launch("rotary", (batch * steps,), (row_threads(heads * pairs),), y, Strided(x), cos, sin, *sizes, sign, interleaved)
        return restored(y, ndim)

    return turned(x, 1), lambda dy: (turned(dy, -1),)
