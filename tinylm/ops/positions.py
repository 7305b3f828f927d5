"""Rotary position embedding."""

import functools
from typing import Any

import numpy as np

from tinylm.backend import array_module, constant, device_namespace, device_of
from tinylm.dispatch import op
from tinylm.errors import ConfigError, ShapeError


@op
def rotary(x, /, frequencies, start=0, *, pairing="half"):
    """Pairs (a, b) of a row's entries turned by the angle t f:  (a cos - b sin, a sin + b cos).

    x (..., T, D), whose rows have the positions t = start, start + 1, ...; frequencies: D/2 numbers f, in radians a
    position, a sequence of Python floats -> (..., T, D).  Su et al. 2021, arXiv:2104.09864, eq. 34.
    pairing: "interleaved" pairs the entries 2i and 2i + 1, as the paper does; "half" the entries i and i + D/2, as
    GPT-NeoX and Hugging Face do.  dx = dy turned back.
    Errors: ShapeError unless D is twice the number of frequencies; ConfigError for another pairing.
    """
    cos, sin = rotary_tables(x, frequencies, start, pairing)
    half = x.shape[-1] // 2

    def turned(x, sin):
        xp = array_module(x)
        if pairing == "interleaved":
            a, b = x[..., ::2], x[..., 1::2]
            return xp.reshape(xp.stack((a * cos - b * sin, a * sin + b * cos), -1), x.shape)
        a, b = x[..., :half], x[..., half:]
        return xp.concatenate((a * cos - b * sin, a * sin + b * cos), -1)

    return turned(x, sin), lambda dy: (turned(dy, -sin),)


def rotary_tables(x: Any, frequencies: Any, start: int, pairing: str) -> tuple[Any, Any]:
    """cos and sin, (T, D/2), of x's dtype and on its device. Errors: as `rotary`."""
    if pairing not in ("half", "interleaved"):
        raise ConfigError(f"rotary: pairing {pairing!r}: expected 'half' or 'interleaved'")
    if x.ndim < 2 or x.shape[-1] != 2 * len(frequencies):
        raise ShapeError(f"rotary: x has shape {x.shape}, expected (..., T, {2 * len(frequencies)}) for {len(frequencies)} frequencies")
    if start < 0:
        raise ShapeError(f"rotary: the first position is {start}: expected at least 0")
    stop = start + x.shape[-2]
    places = 1 << max(stop - 1, 63).bit_length()  # a longer table is made for twice as many positions
    cos, sin = _tables(tuple(frequencies), places, np.dtype(x.dtype).name, device_of(constant(x)))
    return cos[start:stop], sin[start:stop]


@functools.lru_cache(maxsize=8)
def _tables(frequencies: tuple[float, ...], places: int, dtype: str, device: str) -> tuple[Any, Any]:
    """Of all positions below `places`. The angles are float64: at position 10,000 those of float32 are off by 5e-4."""
    angles = np.arange(places)[:, None] * np.array(frequencies, np.float64)
    space = device_namespace(device)
    return space.asarray(np.cos(angles).astype(dtype)), space.asarray(np.sin(angles).astype(dtype))
