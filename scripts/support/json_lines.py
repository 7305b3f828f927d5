"""Output for other programs: one JSON object per line on the standard output, and everything else on the standard error."""

import contextlib
import dataclasses
import io
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

Write = Callable[[Mapping[str, Any]], None]


@contextlib.contextmanager
def json_lines(asked: bool = True) -> Iterator[Write | None]:
    """Gives a function that writes a record as one line of JSON; within it, whatever else is printed goes to the standard error.

    The lines are UTF-8, whatever the terminal's encoding is, and each is written at once. Without `asked` it gives None and
    changes nothing.
    """
    if not asked:
        yield None
        return
    stream = sys.stdout
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # of what is no character, \udcff is JSON's own spelling

    def write(record: Mapping[str, Any]) -> None:
        stream.write(json.dumps(plain(record), ensure_ascii=False, allow_nan=False) + "\n")
        stream.flush()

    with contextlib.redirect_stdout(sys.stderr):
        yield write


def plain(value: Any) -> Any:
    """Returns a value as JSON has it: dataclasses and arrays become objects and lists, NaN and infinities, which JSON lacks, null."""
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
