"""The memory of an array: what is in it before anybody writes, and what CuPy tells of it."""

from typing import Any

import numpy as np

from .api import kind_of, missing


def poisoned(shape: Any, dtype: Any = float, order: str = "C") -> np.ndarray:
    """Returns an array that nobody has written to: NaNs, or integers of -1."""
    raw = np.empty(shape, dtype, order)
    raw.reshape(-1, order="A").view(np.uint8)[...] = 0xFF if raw.dtype != bool else 1
    return raw


class Flags:
    """CuPy's array flags, which do not include `writeable`."""

    def __init__(self, raw: np.ndarray) -> None:
        self._raw = raw

    def __getattr__(self, name: str) -> Any:
        if kind_of("cupy.flags", name) is None:
            raise missing("cupy.flags", name)
        return getattr(self._raw.flags, name)
