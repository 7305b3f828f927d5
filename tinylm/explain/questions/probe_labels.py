"""Labels of characters that a probe can look for."""

from collections.abc import Callable, Sequence

_LINE_PARTS = (0, 4, 8, 16, 32)  # where the parts of a line begin
_LONGEST = 8  # letters that are told apart


def word_position(characters: Sequence[str]) -> list[str]:
    """Returns which letter of its word each character is: '1', '2', ..., '8+'; '-' for what is no letter."""
    found, count = [], 0
    for character in characters:
        count = count + 1 if character.isalpha() or (character == "'" and count) else 0
        found.append("-" if not count else str(count) if count < _LONGEST else f"{_LONGEST}+")
    return found


def next_is_space(characters: Sequence[str]) -> list[bool]:
    """Returns whether the next character is a blank or a line break; the last one is followed by none."""
    return [after.isspace() for after in [*characters[1:], "."]]


def previous(characters: Sequence[str]) -> list[str]:
    """Returns the character before each; a line break before the first."""
    return ["\n", *characters[:-1]]


def line_position(characters: Sequence[str]) -> list[str]:
    """Returns how many characters stand before each in its line: '0-3', '4-7', '8-15', '16-31' or '32+'."""
    found, count = [], 0
    for character in characters:
        i = max(i for i, first in enumerate(_LINE_PARTS) if first <= count)
        found.append(f"{_LINE_PARTS[i]}-{_LINE_PARTS[i + 1] - 1}" if i + 1 < len(_LINE_PARTS) else f"{_LINE_PARTS[i]}+")
        count = 0 if character == "\n" else count + 1
    return found


LABELS: dict[str, Callable[[Sequence[str]], Sequence[str | bool]]] = {
    "word-position": word_position, "next-is-space": next_is_space, "previous": previous, "line-position": line_position,
}  # fmt: skip
