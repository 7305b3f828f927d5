"""Small files and the numbers in them."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tinylm.errors import CheckpointError

_MAX_JSON = 100 << 20  # bytes; the largest tokenizers have thirty million
_LEAST, _MOST = 1e-30, 1e30


def read_json(path: Path) -> Any:
    """What a JSON file holds. Errors: CheckpointError when it is missing, larger than 100 MB or damaged."""
    try:
        size = path.stat().st_size
        if size > _MAX_JSON:
            raise CheckpointError(f"{path} has {size} bytes: expected at most {_MAX_JSON}")
        return parse_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"{twice!r:.80} stands twice in one record")
    return found


def parse_json(text: bytes | str) -> Any:
    """JSON in which no name stands twice. Errors: ValueError, RecursionError."""
    return json.loads(text, object_pairs_hook=_distinct)


def _shown(value: Any) -> str:
    """The value, cut to what a line holds; Python does not write whole numbers of thousands of digits."""
    return f"a whole number of {value.bit_length()} bits" if type(value) is int and value.bit_length() > 200 else f"{value!r:.60}"


def architecture(name: Any, where: Any, said: str) -> str:
    """'gpt' or 'llama', by the name that a file gives under `said`. Errors: CheckpointError for any other."""
    kinds = {"gpt2": "gpt", "llama": "llama"}
    if not isinstance(name, str) or name not in kinds:
        raise CheckpointError(f"{where}: {said} is {name!r:.60}, expected 'gpt2' or 'llama'")
    return kinds[name]


class Fields:
    """A record of settings from a file, each taken with its type checked; `where` names the file in messages."""

    def __init__(self, record: Any, where: Any) -> None:
        if not isinstance(record, Mapping):
            raise CheckpointError(f"{where}: expected a record of names and values, got {type(record).__name__}")
        self.record, self.where = record, where

    def whole(self, name: str, default: int | None = None, most: int = 1 << 24) -> int:
        """An integer from 1 to `most`. Errors: CheckpointError when it is missing without a default, or is none."""
        value = self.record.get(name)
        value = default if value is None else value
        if type(value) is not int or not 1 <= value <= most:
            raise CheckpointError(f"{self.where}: {name} is {_shown(value)}, expected a whole number from 1 to {most}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A number above 0, of a size whose powers and reciprocal are numbers too. Errors: CheckpointError."""
        value: Any = self.record.get(name)
        value = default if value is None else value
        if type(value) not in (int, float) or not _LEAST <= value <= _MOST:
            raise CheckpointError(f"{self.where}: {name} is {_shown(value)}, expected a number from {_LEAST:g} to {_MOST:g}")
        return float(value)

    def share(self, name: str, default: float) -> float:
        """A number from 0 to below 1. Errors: CheckpointError."""
        value: Any = self.record.get(name, default)
        if type(value) not in (int, float) or not 0 <= value < 1:
            raise CheckpointError(f"{self.where}: {name} is {_shown(value)}, expected a number from 0 to below 1")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """True or false. Errors: CheckpointError."""
        value = self.record.get(name)
        value = default if value is None else value
        if type(value) is not bool:
            raise CheckpointError(f"{self.where}: {name} is {_shown(value)}, expected true or false")
        return value

    def unsupported(self, allowed: Mapping[str, Iterable[Any]]) -> list[str]:
        """What stands under these names and is not among the allowed values; a missing name is allowed."""
        return [
            f"{name} {self.record[name]!r:.60} (expected {' or '.join(repr(v) for v in values)})"
            for name, values in allowed.items()
            if name in self.record and self.record[name] not in list(values)
        ]
