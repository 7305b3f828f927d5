"""Lines of the validation part that are in the training part too, up to case, digits, punctuation and spacing."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tinylm.data.words import compiled

LEAST = 40  # letters: a shorter line may be the same by chance

_LETTERS = r"[^\W\d_]+(?:[\p{M}]+[^\W\d_]*)*"  # with their marks: in Hindi, vowels are marks
_NO_ASCII_LETTERS = re.compile("[^a-z]+")


@dataclass(frozen=True)
class Overlap:
    """How many of the validation part's lines of 40 letters or more are in the training part too."""

    lines_compared: int = 0
    lines_shared: int = 0
    examples: tuple[str, ...] = ()  # in the order of the validation part

    def to_json(self) -> dict[str, Any]:
        return {"validation_lines": self.lines_compared, "also_in_training": self.lines_shared, "examples": list(self.examples)}

    def lines(self, part: str = "validation") -> list[str]:
        """Returns the warning for the user; nothing if no line is shared. part: what is compared with the training part."""
        if not self.lines_shared:
            return []
        fraction = self.lines_shared / self.lines_compared
        return [
            f"{self.lines_shared:,} of {self.lines_compared:,} long {part} lines ({fraction:.1%}) stand in the training part too "
            f"(up to case, digits and punctuation), such as {self.examples[0][:60]!r}: the {part} loss will flatter"
        ]


def find_overlap(train: Iterable[str], validation: Iterable[str]) -> Overlap:
    """Compares two parts given in pieces. Only hashes of the validation part's lines are kept: they have 64 bits, so one pair
    in 10¹⁹ counts as the same by mistake."""
    kept = {hash(key) for _, key in _long_lines(validation)}
    if not kept:
        return Overlap()
    shared = {h for h in (hash(key) for _, key in _long_lines(train)) if h in kept}
    compared = found = 0
    examples: list[str] = []
    for line, key in _long_lines(validation):
        compared += 1
        if hash(key) in shared:
            found += 1
            if len(examples) < 3:
                examples.append(line[:200])
    return Overlap(compared, found, tuple(examples))


def _long_lines(text: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yields (line, the part of it that is compared) for lines of enough letters. A piece ends with a line, so each is whole."""
    letters = compiled(_LETTERS).findall
    for piece in text:
        for line in piece.split("\n"):
            if len(line) >= LEAST:
                key = line.lower()
                # The same key either way; most lines are ASCII, where this is faster.
                key = _NO_ASCII_LETTERS.sub(" ", key).strip() if key.isascii() else " ".join(letters(key))
                if len(key) >= LEAST:
                    yield line, key
