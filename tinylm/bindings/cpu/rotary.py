"""Rotary position embedding of heads in place."""

import ctypes
import functools

from tinylm.bindings.cpu.attention import Strides, in_floats, restored, side_by_side, strided
from tinylm.bindings.cpu.library import Strided, Struct, call, library
from tinylm.engine.kernels import kernel
from tinylm.ops.rotary_angles import cos_and_sin


class RotaryLayout(Struct):
    _fields_ = (*((name, ctypes.c_int64) for name in ("batch", "heads", "steps", "pairs")), ("x", Strides), ("y", Strides))


@functools.lru_cache(maxsize=256)
def rotary_layout(batch, heads, steps, pairs, x, y):
    """Returns the struct for these sizes and strides in bytes. A model calls with the same ones again and again."""
    return RotaryLayout(batch=batch, heads=heads, steps=steps, pairs=pairs, x=in_floats(x), y=in_floats(y))


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
        layout = rotary_layout(batch, heads, steps, width // 2, x.strides, y.strides)
        call("rotary", layout, Strided(x), cos, sin, sign, interleaved, Strided(y))
        return restored(y, ndim)

    return turned(x, 1), lambda dy: (turned(dy, -1),)
