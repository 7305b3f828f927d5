"""A tensor that stands in a file, decoded to float32 a few rows at a time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from tinylm.errors import CheckpointError

_SLICE = 1 << 22  # elements decoded at once: 16 MB as float32


@dataclass(frozen=True)
class Stored:
    """shape: of the tensor, rows first; decode(a, b): its rows from a to b as floats, (b - a, ...)."""

    name: str
    shape: tuple[int, ...]
    decode: Callable[[int, int], np.ndarray]

    def parts(self) -> Iterator[tuple[slice, np.ndarray]]:
        """The rows in slices that need little memory, with their places.

        Errors: CheckpointError for a NaN or an infinity, naming the tensor.
        """
        length = self.shape[0] if self.shape else 1
        width = max(1, int(np.prod(self.shape[1:])))
        step = max(1, _SLICE // width)
        for start in range(0, length, step):
            stop = min(start + step, length)
            part = self.decode(start, stop)
            if not np.isfinite(part).all():
                raise CheckpointError(f"the stored tensor {self.name!r} holds a NaN or an infinity in its rows {start} to {stop - 1}")
            yield slice(start, stop), part

    def read(self) -> np.ndarray:
        """All of it, float32."""
        out = np.empty(self.shape, np.float32)
        for place, part in self.parts():
            out[place] = part
        return out
