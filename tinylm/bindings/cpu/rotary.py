"""Rotary position embedding of heads where they lie."""

from tinylm.bindings.cpu.heads import numbers, restored, side_by_side, strided, strides
from tinylm.bindings.cpu.library import Strided, call, library
from tinylm.engine.kernels import kernel
from tinylm.ops.rotary_angles import cos_and_sin


@kernel("rotary", device="cpu")
def rotary(x, /, frequencies, start=0, *, pairing="half"):
    if not 2 <= x.ndim <= 4 or library() is None:
        return NotImplemented
    cos, sin = cos_and_sin(x, frequencies, start, pairing)
    interleaved = pairing == "interleaved"

    def turned(x, sign):
        ndim, x = x.ndim, strided(x)
        batch, heads, steps, width = x.shape
        (y,) = side_by_side(1, x.shape, x)
        sizes = numbers(batch, heads, steps, width // 2, *strides(x), *strides(y))
        call("rotary", sizes, Strided(x), cos, sin, sign, interleaved, Strided(y))
        return restored(y, ndim)

    return turned(x, 1), lambda dy: (turned(dy, -1),)
