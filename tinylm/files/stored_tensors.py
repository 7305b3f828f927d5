"""A tensor that lies in a file and is decoded to floats a few rows at a time."""

import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinylm.errors import CheckpointError
from tinylm.files.regular_files import check_regular, cut_after_mapping, unreadable

_SLICE = 1 << 22  # elements decoded at once: 16 MB as float32

# Formats whose bytes can be kept as weights: the bytes of a block, and the places in it of the 16-bit numbers that may not be finite.
KEPT = {
    "F16": (2, (0,)), "BF16": (2, (0,)), "Q4_0": (18, (0,)), "Q4_1": (20, (0, 2)), "Q8_0": (34, (0,)), "Q4_K": (144, (0, 2)),
    "Q6_K": (210, (208,)),
}  # fmt: skip


@dataclass(frozen=True)
class StoredRows:
    """A matrix as bytes.  format: one of KEPT.  raw: uint8 (rows, bytes of a row), mapped.  decode: such bytes -> floats (n, columns)."""

    format: str
    raw: np.ndarray
    decode: Callable[[np.ndarray], np.ndarray]

    def checked_copy(self, name: str) -> np.ndarray:
        """Returns the bytes, copied: they stay what they are if the file is written or cut later. The pages of the file are let go of.

        Raises CheckpointError for a NaN or an infinity, naming the tensor.
        """
        copy = np.array(self.raw[:])
        if hasattr(mmap, "MADV_DONTNEED") and (whole := getattr(self.raw, "_mmap", None)) is not None:
            whole.madvise(mmap.MADV_DONTNEED)
        size, places = KEPT[self.format]
        exponent = np.uint16(0x7F80 if self.format == "BF16" else 0x7C00)
        for place in places:
            numbers = copy.reshape(len(copy), -1, size)[..., place : place + 2].copy().view("<u2")
            if (wrong := (numbers & exponent) == exponent).any():
                row = int(wrong.any(axis=(1, 2)).argmax())
                raise CheckpointError(f"the stored tensor {name!r:.80} holds a NaN or an infinity in its row {row}")
        return copy


@dataclass(frozen=True)
class StoredTensor:
    """shape: of the tensor, rows first.  decode(a, b): its rows from a to b as floats, (b - a, ...).  rows: a matrix whose bytes can be
    kept; None for any other tensor."""

    name: str
    shape: tuple[int, ...]
    decode: Callable[[int, int], np.ndarray]
    rows: StoredRows | None = None

    @property
    def empty(self) -> bool:
        """Whether it has no elements, as some files have them for a mark."""
        return 0 in self.shape

    def slices(self) -> Iterator[tuple[tuple[slice, ...], np.ndarray]]:
        """Yields the rows as float32 in slices that need little memory, each with its place; none for an empty tensor.

        Raises CheckpointError for a NaN, an infinity or a number that float32 cannot hold, naming the tensor.
        """
        if self.empty:
            return
        length = self.shape[0] if self.shape else 1
        width = max(1, int(np.prod(self.shape[1:])))
        step = max(1, _SLICE // width)
        for start in range(0, length, step):
            stop = min(start + step, length)
            with np.errstate(over="ignore"):  # what float32 cannot hold becomes an infinity
                rows = self.decode(start, stop).astype(np.float32, copy=False)
            if not np.isfinite(rows).all():
                raise CheckpointError(f"the stored tensor {self.name!r:.80} holds a NaN or an infinity in its rows {start} to {stop - 1}")
            yield (slice(start, stop),) if self.shape else (), rows

    def read(self) -> np.ndarray:
        """Returns all of it, float32."""
        out = np.empty(self.shape, np.float32)
        for place, rows in self.slices():
            out[place] = rows
        return out

    def equals(self, other: "StoredTensor") -> bool:
        """Returns whether both hold the same numbers."""
        if self.rows and other.rows and self.rows.format == other.rows.format and np.array_equal(self.rows.raw[:], other.rows.raw[:]):
            return self.shape == other.shape
        pairs = zip(self.slices(), other.slices(), strict=True)
        return self.shape == other.shape and all(np.array_equal(a, b) for (_, a), (_, b) in pairs)


class MappedBytes(np.memmap):
    """The bytes of a file, mapped read-only; each access compares the file's size first."""

    def __getitem__(self, index: Any) -> Any:
        """Returns the bytes at these places, mapped too if they are a slice. Raises CheckpointError if the file was cut since."""
        if problem := cut_after_mapping(self):
            raise CheckpointError(problem)
        return super().__getitem__(index)


def map_file(path: Path) -> np.ndarray:
    """Returns a file's bytes, mapped into memory read-only: only what is used is read. Raises CheckpointError."""
    check_regular(path)
    try:
        return MappedBytes(path, np.uint8, "r") if path.stat().st_size else np.zeros(0, np.uint8)  # an empty file cannot be mapped
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
