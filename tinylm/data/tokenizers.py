"""From text to token ids and back."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from tinylm.errors import DataError


class CharTokenizer:
    """One id a character, in order of the code points: the tokens are exactly the characters of
    the text it was made from, so an unknown character is an error and nothing is lost."""

    kind = "char"

    def __init__(self, characters: Iterable[str]) -> None:
        self.characters = sorted(set(characters))
        if not self.characters:
            raise DataError("a tokenizer needs at least one character")
        self._points = np.array([ord(c) for c in self.characters], np.uint32)

    @property
    def vocab_size(self) -> int:
        return len(self.characters)

    def encode(self, text: str) -> np.ndarray:
        """The ids of a text, int64. Errors: DataError naming the first unknown character and its position."""
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
        ids = np.searchsorted(self._points, points)
        known = self._points[np.minimum(ids, self.vocab_size - 1)] == points
        if not known.all():
            at = int(np.argmin(known))
            raise DataError(f"unknown character {text[at]!r} at position {at}: the model knows {''.join(self.characters)!r}")
        return ids.astype(np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids."""
        return "".join([self.characters[i] for i in ids])

    def to_json(self) -> dict[str, Any]:
        """What `from_json` needs to make the same tokenizer."""
        return {"kind": self.kind, "characters": "".join(self.characters)}


def from_json(record: dict[str, Any]) -> CharTokenizer:
    """The tokenizer that `to_json` described. Errors: DataError when the record is not one."""
    if record.get("kind") != "char" or not isinstance(record.get("characters"), str):
        raise DataError(f"not a tokenizer record: {str(record)[:80]}")
    return CharTokenizer(record["characters"])
