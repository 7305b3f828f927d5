"""What a word is: letters, digits and underscores, with the marks that are written above, below or beside them."""

import functools
import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

from tinylm.errors import ConfigError, DataError

# As in \w, and after the first one also marks (Unicode's category M: accents, vowel signs, points) and the two invisible
# signs that join letters or keep them apart. A mark that follows no letter, such as that of an emoji, is no word's.
_LETTERS = r"\w[\w\p{M}\u200c\u200d]*"
_WORD = rf"{_LETTERS}(?:['’＇·׳״\u00ad\u2060]{_LETTERS})*"  # apostrophes, the dot of Catalan, Hebrew's signs, soft hyphens
_OLD_WORD = r"\w+(?:['’]\w+)*"  # the first runs': each vowel sign of Hindi was a word of its own

# The pieces of a text, which joined are the text: a new pattern comes first, the oldest stays last. \p{M}: see `compiled`.
WORD_PATTERNS = (rf"\n| ?{_WORD}| ?[^\w\s]+|\s", rf"\n| ?{_OLD_WORD}| ?[^\w\s]+|\s")

# Words, and single signs with their marks.
WORD_OR_SIGN = rf"{_WORD}|[^\w\s][\p{{M}}\u200c\u200d]*"

# The same, with what is joined to a word by signs without a space: 3.14, 4711-A, -5, $20, name@example.org, https://example.org/a?b=1.
_JOINED = r"[-./:,@&+#=?%~°'’＇·׳״\u00ad\u2060]+"
COMPOUND_OR_SIGN = rf"(?<!\w)[-+−#@$€£¥§]*{_LETTERS}(?:{_JOINED}{_LETTERS})*[%‰°€]*|[^\w\s][\p{{M}}\u200c\u200d]*"
APOSTROPHES = "'’＇"


@functools.cache
def marks() -> str:
    """Returns all characters of Unicode's category M as ranges within a class of `re`, which has no name for them."""
    points = itertools.chain(range(0x300, 0x20000), range(0xE0100, 0xE01F0))  # there are none elsewhere
    found = [n for n in points if unicodedata.category(chr(n)).startswith("M")]
    runs = ([n for _, n in run] for _, run in itertools.groupby(enumerate(found), lambda item: item[1] - item[0]))
    return "".join([f"{chr(run[0])}-{chr(run[-1])}" for run in runs])


@functools.cache
def compiled(pattern: str) -> re.Pattern[str]:
    """Returns the pattern for `re`, with \\p{M} in a class, a mark, written out."""
    return re.compile(pattern.replace(r"\p{M}", marks()))


def words_of(text: str, pattern: str = WORD_PATTERNS[0]) -> list[str]:
    """Returns the words, numbers and runs of punctuation of a text, without the spaces and line breaks between them."""
    return [word for word in (piece.strip() for piece in compiled(pattern).findall(text)) if word]


def count_words(text: str | Iterable[str], min_count: int, pattern: str) -> tuple[dict[str, int], list[str]]:
    """Returns (how often a text, whole or in pieces, has each word that it has at least min_count times, the most common first,
    ties by spelling; the words from which to learn how one is spelt that is not among them).

    The latter are the rarer words, or if there are none those that occur once, or else all of them, by spelling.
    Raises ConfigError for a min_count below 1, DataError if no word is left.
    """
    if min_count < 1:
        raise ConfigError(f"min_count is {min_count}: expected at least 1")
    counts: Counter[str] = Counter()
    for piece in [text] if isinstance(text, str) else text:
        counts.update(compiled(pattern).findall(piece))
    kept = {w: n for w, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if n >= min_count}
    if not kept:
        raise DataError(f"no word of the text occurs {min_count} times (min_count)")
    return kept, sorted(w for w, n in counts.items() if n < max(min_count, 2)) or sorted(counts)
