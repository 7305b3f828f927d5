"""The exceptions of tinylm. Each message names the value, where it stood and what was expected.

Every one is a `TinylmError` and also the built-in exception that a NumPy user would expect, so
`except ValueError` and `except TinylmError` both work. The scripts print a `TinylmError` as one
line and exit with status 2.
"""

from collections.abc import Sequence
from itertools import accumulate


def listed(problems: Sequence[str]) -> str:
    """Returns the first problems, up to 360 characters, and how many more there are: the end of a message."""
    shown = max(1, sum(length <= 360 for length in accumulate(len(problem) + 2 for problem in problems)))
    return "; ".join(problems[:shown]) + (f"; and {len(problems) - shown} more" if shown < len(problems) else "")


class TinylmError(Exception):
    """Base of everything tinylm raises on purpose."""


class ShapeError(TinylmError, ValueError):
    """Arrays whose shapes or dtypes do not fit the operation."""


class GradientShapeError(ShapeError):
    """A vjp that returned a gradient of another shape than its argument's: `argument` is its number,
    `got` and `expected` are the shapes (a type's name for what has none)."""

    def __init__(self, message: str, argument: int, got: tuple[int, ...] | str, expected: tuple[int, ...]) -> None:
        super().__init__(message)
        self.argument, self.got, self.expected = argument, got, expected


class RangeError(TinylmError, IndexError):
    """An index or token id outside its range."""


class DeviceError(TinylmError, RuntimeError):
    """A device that is unknown, missing, or mixed with another one."""


class AutogradError(TinylmError, RuntimeError):
    """A backward pass that cannot be run: no graph, a freed graph, a value changed since."""


class AnomalyError(TinylmError, FloatingPointError):
    """A NaN or an infinity, with the operation that first produced it."""


class ConfigError(TinylmError, ValueError):
    """A setting outside what it may be."""


class DataError(TinylmError, ValueError):
    """A text, corpus or data file that cannot be used."""


class CheckpointError(TinylmError, ValueError):
    """A run folder, checkpoint or state dict that is damaged, foreign or does not fit."""
