"""Rotary position embedding of heads in place."""

import ctypes

from tinylm.bindings.cpu.attention import Strides, in_floats, restored, side_by_side, strided
from tinylm.bindings.cpu.library import Strided, Struct, call, library
from tinylm.engine.kernels import kernel
from tinylm.ops.rotary_angles import cos_and_sin


class RotaryLayout(Struct):
    _fields_ = (*((name, ctypes.c_int64) for name in ("batch", "heads", "steps", "pairs")), ("x", Strides), ("y", Strides))


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
        layout = RotaryLayout(batch=batch, heads=heads, steps=steps, pairs=width // 2, x=in_floats(x.strides), y=in_floats(y.strides))
        call("rotary", layout, Strided(x), cos, sin, sign, interleaved, Strided(y))
        return restored(y, ndim)

    return turned(x, 1), lambda dy: (turned(dy, -1),)
