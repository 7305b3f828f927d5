"""Rotary position embedding."""

from tinylm.engine.arrays import array_module, constant
from tinylm.engine.op import op
from tinylm.ops.rotary_angles import cos_and_sin


@op
def rotary(x, /, frequencies, start=0, *, pairing="half"):
    """Rotates pairs (a, b) of a row's entries by the angle t f:  (a cos - b sin, a sin + b cos).

    x (..., T, D), whose rows have the positions t = start, start + 1, ...; frequencies: D/2 numbers f, in radians per
    position, a sequence of Python floats -> (..., T, D).  Su et al. 2021, arXiv:2104.09864, eq. 34.
    pairing: "interleaved" pairs the entries 2i and 2i + 1, as the paper does; "half" the entries i and i + D/2, as
    GPT-NeoX and Hugging Face do.  dx = dy rotated back.
    Raises ShapeError unless D is twice the number of frequencies, ConfigError for another pairing.
    """
    cos, sin = cos_and_sin(constant(x), frequencies, start, pairing)
    half = x.shape[-1] // 2

    def rotated(x, sin):
        xp = array_module(x)
        if pairing == "interleaved":
            a, b = x[..., ::2], x[..., 1::2]
            return xp.reshape(xp.stack((a * cos - b * sin, a * sin + b * cos), -1), x.shape)
        a, b = x[..., :half], x[..., half:]
        return xp.concatenate((a * cos - b * sin, a * sin + b * cos), -1)

    return rotated(x, sin), lambda dy: (rotated(dy, -sin),)
