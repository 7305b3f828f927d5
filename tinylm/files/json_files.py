"""JSON files: written whole, read with a limit on their size, and their settings taken with types and ranges checked."""

import json
import math
import os
from collections import Counter
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any

from tinylm.errors import CheckpointError, listed
from tinylm.files.atomic import write_atomically
from tinylm.files.notices import warn_once
from tinylm.files.regular_files import open_regular, unreadable

_MAX_SIZE = 100 << 20  # bytes; the largest tokenizers have thirty million
_SMALLEST, _LARGEST = 1e-30, 1e30
_DEEPEST = 100  # lists and records within each other; what is deeper could not be shown or compared, which recurses
_TOO_DEEP = f"it is nested more than {_DEEPEST} deep"


def write_json(path: Path, record: Any) -> None:
    """Writes an indented JSON file, whole or not at all. Raises CheckpointError."""
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    write_atomically(path, text.encode("utf-8", "backslashreplace"))  # an undecodable path becomes a \u escape, which is JSON


def read_text(path: Path) -> str:
    """Returns the text of a small file. Raises CheckpointError if it is missing, no regular file, larger than 100 MB or not UTF-8."""
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            raw = file.read() if size <= _MAX_SIZE else None
        text = None if raw is None else str(raw, "utf-8")
    except OSError as error:
        raise unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    if text is None:
        raise CheckpointError(f"{path} has {size} bytes: expected at most {_MAX_SIZE}")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_json(path: Path) -> Any:
    """Returns what a JSON file holds. Raises CheckpointError as `read_text` does, or if the file is damaged."""
    text = read_text(path)
    try:
        return parse_json(text)
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error


def parse_json(text: str) -> Any:
    """Returns the value of a JSON text. Raises ValueError if it is wrong, a record names something twice, or it is nested over 100 deep."""
    try:
        value = json.loads(text, object_pairs_hook=_distinct)
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error
    level: list[Any]
    depth, level = 0, [[value]]  # the lists and records of one depth
    while level := [x for each in level for x in (each.values() if isinstance(each, dict) else each) if isinstance(x, (dict, list))]:
        depth += 1
        if depth > _DEEPEST:
            raise ValueError(_TOO_DEEP)
    return value


def without_nan(x: Any) -> Any:
    """Returns nested lists and records with NaN and infinities, which JSON lacks, as text."""
    if isinstance(x, dict):
        return {name: without_nan(value) for name, value in x.items()}
    if isinstance(x, (list, tuple)):
        return [without_nan(value) for value in x]
    return str(x) if isinstance(x, float) and not math.isfinite(x) else x


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"{twice!r:.80} stands twice in one record")
    return found


def _shown(value: Any) -> str:
    """Returns the value as text, cut to what a line holds; Python refuses to write integers of thousands of digits."""
    return f"a whole number of {value.bit_length()} bits" if type(value) is int and value.bit_length() > 200 else f"{value!r:.60}"


class Fields:
    """The settings of a record, each taken with its type and range checked; `where` names the file in messages.

    A setting that is missing or null takes its default. Every method raises CheckpointError for a value that does not fit.
    """

    def __init__(self, record: Any, where: Any) -> None:
        if not isinstance(record, Mapping):
            raise CheckpointError(f"{where}: expected a record of names and values, got {type(record).__name__}")
        self.record, self.where = record, where

    def _value(self, name: str, default: Any) -> Any:
        value = self.record.get(name)
        return default if value is None else value

    def _refused(self, name: str, value: Any, expected: str) -> CheckpointError:
        return CheckpointError(f"{self.where}: {name} is {_shown(value)}, expected {expected}")

    def integer(self, name: str, default: int | None = None, largest: int = 1 << 24) -> int:
        """Returns an integer from 1 to `largest`."""
        value = self._value(name, default)
        if type(value) is not int or not 1 <= value <= largest:
            raise self._refused(name, value, f"a whole number from 1 to {largest}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """Returns a number above 0 whose powers and reciprocal are finite too."""
        value = self._value(name, default)
        if type(value) not in (int, float) or not _SMALLEST <= value <= _LARGEST:
            raise self._refused(name, value, f"a number from {_SMALLEST:g} to {_LARGEST:g}")
        return float(value)

    def fraction(self, name: str, default: float) -> float:
        """Returns a number from 0 to below 1."""
        value = self.record.get(name, default)
        if type(value) not in (int, float) or not 0 <= value < 1:
            raise self._refused(name, value, "a number from 0 to below 1")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """Returns true or false."""
        value = self._value(name, default)
        if type(value) is not bool:
            raise self._refused(name, value, "true or false")
        return value

    def refuse_others(self, allowed: Mapping[str, Iterable[Any]], problems: Iterable[str] = ()) -> None:
        """Refuses these settings if a value is not among the allowed ones (a missing setting is allowed), and further problems."""
        found = [
            f"{name} {self.record[name]!r:.60} (expected {' or '.join(repr(v) for v in values)})"
            for name, values in allowed.items()
            if name in self.record and self.record[name] not in list(values)
        ]
        if found := [*found, *problems]:
            raise CheckpointError(f"{self.where}: settings that are not supported: {listed(found)}")

    def name_others(self, known: Container[str]) -> None:
        """Prints a warning, once, with the names of the settings that are not among the known ones: they may matter, and are ignored."""
        if others := [f"{name!r:.80}" for name, value in self.record.items() if name not in known and value is not None]:
            warn_once(f"{self.where}: settings that tinylm does not know, and ignores: {listed(others)}")


def read_fields(path: Path) -> Fields:
    """Returns the record of a JSON file. Raises CheckpointError as `read_json` does, or if it holds something else."""
    return Fields(read_json(path), path)
