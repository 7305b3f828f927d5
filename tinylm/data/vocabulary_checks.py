"""What a tokenizer is given: the words of its vocabulary, their ids, and text that is valid Unicode."""

from collections.abc import Iterable, Sequence

from tinylm.errors import DataError, RangeError


def numbered(words: Sequence[str]) -> dict[str, int]:
    """Returns each word's id, its place in the vocabulary. Raises DataError for a word that is no text, and for one that stands twice."""
    if not all(isinstance(w, str) for w in words):
        raise DataError("a word of the vocabulary is no text")
    ids = {w: i for i, w in enumerate(words)}
    if len(ids) < len(words):
        raise DataError("a word stands twice in the vocabulary")
    return ids


def in_vocabulary(ids: Iterable[int], size: int) -> list[int]:
    """Returns the ids as a list. Raises RangeError for one that is not from 0 to size - 1."""
    listed = list(ids)
    for i in listed:
        if not 0 <= i < size:
            raise RangeError(f"token id {i} is out of range: expected 0 to {size - 1}")
    return listed


def checked_utf8(text: str) -> bytes:
    """Returns the text's bytes. Raises DataError for half a surrogate pair, which undecodable arguments leave behind."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(f"{text[error.start]!r} at position {error.start} is no character: the text is not valid Unicode") from error
