"""The exceptions of tinylm. Each message names the value, where it stood and what was expected.

Every one is a `TinylmError` and also the built-in exception that a NumPy user would expect, so
`except ValueError` and `except TinylmError` both work. The scripts print a `TinylmError` as one
line and exit with status 2. A message may quote a file or an argument, which may hold anything: what a terminal
would obey is spelled out, and a long message loses its middle.
"""

from collections.abc import Sequence
from itertools import accumulate
from types import TracebackType


def listed(problems: Sequence[str], longest: int = 360) -> str:
    """Returns the first problems, up to so many characters, and how many more there are: the end of a message."""
    shown = max(1, sum(length <= longest for length in accumulate(len(problem) + 2 for problem in problems)))
    return "; ".join(problems[:shown]) + (f"; and {len(problems) - shown} more" if shown < len(problems) else "")


LONGEST = 480  # characters of a message; with what scripts put before it, a line has at most 500


def printable(text: str, longest: int = LONGEST) -> str:
    """Returns a text as a message: at most so many characters, of a longer one the beginning and the end with "..." between them.

    What does not print, such as escape or a change of the direction of writing, is spelled out as \\x1b; newlines stay.
    """
    if len(text) <= longest and text.isprintable():
        return text
    parts = [text] if len(text) <= 2 * longest else [text[:longest], text[-longest:]]
    shown = ["".join(c if c.isprintable() or c == "\n" else str(c.encode("unicode_escape"), "ascii") for c in part) for part in parts]
    if len(parts) == 1 and len(shown[0]) <= longest:
        return shown[0]
    end = longest // 3
    return f"{shown[0][: longest - end - 5]} ... {shown[-1][-end:]}"


def one_line(text: str) -> str:
    """Returns a text as a message in one line: `printable`, with one space for each stretch of spaces and newlines."""
    return " ".join(printable(text).split())


class TinylmError(Exception):
    """Base of everything tinylm raises on purpose. Its message is made `printable`."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(printable(arg) if isinstance(arg, str) else arg for arg in args))


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


class AxisError(ShapeError, IndexError):
    """An axis that an array does not have."""


class DeviceError(TinylmError, RuntimeError):
    """A device that is unknown, missing, or mixed with another one."""


class AutogradError(TinylmError, RuntimeError):
    """A backward pass that cannot be run: no graph, a freed graph, a value changed since."""


class AnomalyError(TinylmError, FloatingPointError):
    """A NaN or an infinity, with the operation that first produced it. `report` is the message with its middle, however long."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.report = message


class ConfigError(TinylmError, ValueError):
    """A setting outside what it may be."""


class DataError(TinylmError, ValueError):
    """A text, corpus or data file that cannot be used."""


class CheckpointError(TinylmError, ValueError):
    """A run folder, checkpoint or state dict that is damaged, foreign or does not fit."""


def explanation(error: BaseException) -> str | None:
    """Returns the one line that tells a user of a program what stopped it; None for a mistake in the code, which needs its traceback.

    A line about memory or a file says which function it was.
    """
    if isinstance(error, TinylmError):
        return one_line(str(error))
    if not isinstance(error, MemoryError | OSError):
        return None
    name = f" {error.filename!r}" if isinstance(error, OSError) and error.filename is not None else ""
    what = "not enough memory" if isinstance(error, MemoryError) else f"cannot use the file{name}" if name else "the system refuses"
    why = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return one_line(f"{what}{_place(error.__traceback__)}" + (f": {why}" if why else ""))


def _place(trace: TracebackType | None) -> str:
    """Returns the innermost function of tinylm or its scripts that a traceback passes through."""
    found = ""
    while trace is not None:
        code = trace.tb_frame.f_code
        *_, package, file = ("", *code.co_filename.replace("\\", "/").split("/"))
        if str(trace.tb_frame.f_globals.get("__name__")).split(".")[0] in ("tinylm", "__main__"):
            found = f", in {code.co_qualname} ({package}/{file}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return found
