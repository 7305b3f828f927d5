"""The cosines and sines of rotary positions, computed once for all layers that ask for them."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinylm.checks import check_finite, check_integer
from tinylm.engine.arrays import Array
from tinylm.engine.devices import device_namespace, device_of
from tinylm.errors import ConfigError, ShapeError


def cos_and_sin(x: Array, frequencies: Any, start: int, pairing: str) -> tuple[Array, Array]:
    """Returns cos and sin of the angles t f, (T, D/2) each, for the positions t = start, ..., start + T - 1 of x (..., T, D),
    in x's dtype and on its device.

    Raises ShapeError unless D is twice the number of frequencies and start at least 0, ConfigError for an unknown pairing, a
    frequency that is not finite and a start that is no integer.
    """
    if pairing not in ("half", "interleaved"):
        raise ConfigError(f"rotary: pairing {pairing!r}: expected 'half' or 'interleaved'")
    if x.ndim < 2 or x.shape[-1] != 2 * len(frequencies):
        raise ShapeError(f"rotary: x has shape {x.shape}, expected (..., T, {2 * len(frequencies)}) for {len(frequencies)} frequencies")
    if type(start) is not int:
        start = check_integer("rotary: the first position", start)
    if start < 0:
        raise ShapeError(f"rotary: the first position is {start}: expected at least 0")
    if bool in map(type, frequencies):  # to the caches True would be 1.0
        _check(frequencies)
    return _rows(tuple(frequencies), start, start + x.shape[-2], x.dtype, device_of(x))


def _check(frequencies: Sequence[Any]) -> None:
    for i, frequency in enumerate(frequencies):
        check_finite(f"rotary: frequency {i}", frequency)


@functools.lru_cache(maxsize=8)
def _rows(frequencies: tuple[float, ...], start: int, stop: int, dtype: Any, device: str) -> tuple[Array, Array]:
    places = 1 << max(stop - 1, 63).bit_length()  # a longer table is made for twice as many positions
    cos, sin = _tables(frequencies, places, dtype, device)
    return cos[start:stop], sin[start:stop]


@functools.lru_cache(maxsize=8)
def _tables(frequencies: tuple[float, ...], places: int, dtype: Any, device: str) -> tuple[Array, Array]:
    """Returns cos and sin for all positions below `places`. The angles are float64: at position 10,000 those of float32 are off by 5e-4."""
    _check(frequencies)
    angles = np.arange(places)[:, None] * np.array(frequencies, np.float64)
    space = device_namespace(device)
    return space.asarray(np.cos(angles).astype(dtype)), space.asarray(np.sin(angles).astype(dtype))
