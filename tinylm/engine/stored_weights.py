"""The array that holds weights as their file has them: it looks like a float32 matrix and keeps the file's bytes.

A file of 4-bit weights is an eighth of the same numbers as float32, and reading them is most of the work of generating a token.
Kernels that can read the bytes do so; everything else gets the decoded numbers, made anew each time.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from tinylm.errors import ConfigError

_FLOAT32 = np.dtype(np.float32)
Weights = Literal["stored", "float32"]  # of a pretrained model: matrices as their file has them, if the kernels here read them so
HINT = "load the model with weights='float32' to change its weights"


class StoredWeights(np.lib.mixins.NDArrayOperatorsMixin):
    """A matrix (rows, columns) whose numbers are read as float32 and cannot be written.

    format: of the bytes, by a name such as "Q4_1".  raw: uint8 (rows, bytes of a row), in C order.
    decode: bytes (n, bytes of a row) -> float32 (n, columns), the numbers that these bytes stand for.
    Attributes and methods that are not here are those of the decoded matrix.
    """

    __slots__ = ("_as_parameter_", "_decode", "format", "raw", "shape")
    dtype, ndim, base = _FLOAT32, 2, None

    def __init__(self, format: str, raw: np.ndarray, columns: int, decode: Callable[[np.ndarray], np.ndarray]) -> None:
        self.format, self.raw, self._decode = format, np.ascontiguousarray(raw), decode
        self.shape = len(raw), columns
        self._as_parameter_ = self.raw.ctypes.data  # what ctypes passes to a kernel

    @property
    def size(self) -> int:
        return self.shape[0] * self.shape[1]

    @property
    def nbytes(self) -> int:
        """The bytes that are kept."""
        return self.raw.nbytes

    def __reduce__(self) -> tuple[Any, ...]:
        """Returns how a copy is made: with the address of its own bytes."""
        return StoredWeights, (self.format, self.raw, self.shape[1], self._decode)

    def decoded(self) -> np.ndarray:
        """Returns the numbers, read-only."""
        return self._rows(self.raw)

    def _rows(self, raw: np.ndarray) -> np.ndarray:
        numbers = np.ascontiguousarray(self._decode(raw), np.float32).reshape(*raw.shape[:-1], self.shape[1])
        numbers.flags.writeable = False
        return numbers

    def astype(self, dtype: Any, copy: bool = True) -> Any:
        """Returns the numbers in another dtype; the array itself for float32 without a copy."""
        return self if np.dtype(dtype) == _FLOAT32 and not copy else self.decoded().astype(dtype)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("weights as their file has them are decoded into a new array: copy=False is impossible")
        return self.decoded() if dtype in (None, _FLOAT32) and not copy else np.array(self.decoded(), dtype)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = (), **settings: Any) -> Any:
        if any(isinstance(x, StoredWeights) for x in out):
            self._refuse()
        return getattr(ufunc, method)(*decoded(inputs), **settings, **({"out": out} if out else {}))

    def __getitem__(self, key: Any) -> Any:
        """Returns rows, of which no others are decoded, or anything else that an index of the matrix gives."""
        if isinstance(key, (int, np.integer, slice)) or (isinstance(key, np.ndarray) and key.dtype.kind in "iu"):
            return self._rows(self.raw[key])
        return self.decoded()[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._refuse()

    def _refuse(self) -> None:
        raise ConfigError(f"weights of shape {self.shape} are kept as their file has them, {self.format}, and only read: {HINT}")

    def __len__(self) -> int:
        return self.shape[0]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(np.ndarray, name):
            raise AttributeError(name)
        return getattr(self.decoded(), name)

    def __repr__(self) -> str:
        return f"<StoredWeights {self.shape} of {self.format}, {self.nbytes} bytes>"


def decoded(arrays: Sequence[Any]) -> Sequence[Any]:
    """Returns the same arrays, stored weights among them as float32 arrays."""
    if StoredWeights not in map(type, arrays):
        return arrays
    return [x.decoded() if type(x) is StoredWeights else x for x in arrays]


def check_trainable(array: Any, name: Any) -> None:
    """Raises ConfigError for stored weights: an optimiser cannot change them."""
    if type(array) is StoredWeights:
        told = f"parameter {name!s:.100} of shape {array.shape} is kept as its file has it, {array.format}"
        raise ConfigError(f"{told}: {HINT}, or train adapters")
