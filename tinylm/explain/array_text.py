"""Arrays in a few words: shape, norm, and the elements of a small one."""

import numpy as np

from tinylm.engine.arrays import Array
from tinylm.engine.devices import to_numpy

_FEW = 8  # the largest array whose elements are all shown


def norm(array: Array) -> float:
    """Returns the square root of the sum of squares, summed in float64."""
    return float(np.linalg.norm(to_numpy(array).astype(np.float64).ravel()))


def cosine(a: Array, b: Array) -> float:
    """Returns a · b / (|a| |b|), 0 if one of them is 0: how far a part points in the direction of the sum."""
    size = norm(a) * norm(b)
    return float(np.vdot(to_numpy(a).astype(np.float64), to_numpy(b).astype(np.float64))) / size if size else 0.0


def shape_text(shape: tuple[int, ...] | None) -> str:
    """Returns '(2, 3)'; '-' for an argument that is no array."""
    return "-" if shape is None else f"({', '.join(map(str, shape))})"


def described(array: Array | None) -> str:
    """Returns '(2, 3) |g| 0.5', with the elements of a small array."""
    if array is None:
        return "none, counted as zeros"
    values = f"  {np.array2string(to_numpy(array), precision=4, separator=', ')}".replace("\n", "") if array.size <= _FEW else ""
    return f"{shape_text(array.shape)} |g| {norm(array):.4g}{values}"
