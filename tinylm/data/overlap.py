"""Lines of the validation part that the training part has too, up to case, digits, punctuation and spacing."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

LEAST = 40  # letters of a line that is not the same by chance

_OTHER = re.compile(r"[\W\d_]+")


@dataclass(frozen=True)
class Overlap:
    """How many of the validation part's lines of 40 letters or more occur in the training part, too."""

    lines_compared: int = 0
    lines_shared: int = 0
    examples: tuple[str, ...] = ()  # in the order of the validation part

    def to_json(self) -> dict[str, Any]:
        return {"validation_lines": self.lines_compared, "also_in_training": self.lines_shared, "examples": list(self.examples)}

    def lines(self) -> list[str]:
        """What a person is told; nothing where nothing is shared."""
        if not self.lines_shared:
            return []
        share = self.lines_shared / self.lines_compared
        return [
            f"{self.lines_shared:,} of {self.lines_compared:,} long validation lines ({share:.1%}) stand in the training part too "
            f"(up to case, digits and punctuation), such as {self.examples[0][:60]!r}: the validation loss will flatter"
        ]


def find_overlap(train: Iterable[str], validation: Iterable[str]) -> Overlap:
    """Both parts in pieces. Only hashes of the validation part's lines are held: of 64 bits, so that one
    pair in 10¹⁹ is taken for the same by mistake."""
    held = {hash(key) for _, key in _long_lines(validation)}
    if not held:
        return Overlap()
    shared = {h for h in (hash(key) for _, key in _long_lines(train)) if h in held}
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
    """(line, what of it is compared) for lines of enough letters. A piece ends with a line, so each is whole."""
    for piece in text:
        for line in piece.split("\n"):
            if len(line) >= LEAST:
                key = _OTHER.sub(" ", line.lower()).strip()
                if len(key) >= LEAST:
                    yield line, key
