"""From a corpus to token ids: in memory if they are few, else in a file that is made once and kept."""

import hashlib
from collections.abc import Collection, Iterable, Iterator
from itertools import chain

import numpy as np

from tinylm.data.corpus import Corpus, Part
from tinylm.data.reading import pieces as pieces_of
from tinylm.data.token_files import open_tokens, tokenizer_digest, write_tokens
from tinylm.data.tokenizers import CharTokenizer, Tokenizer, train_tokenizer
from tinylm.errors import DataError
from tinylm.files.atomic import remove_abandoned
from tinylm.files.cache import private_folder

IN_MEMORY = 8_000_000  # characters; a longer part is mapped from a file
SAMPLE = 64_000_000  # characters that words and byte pairs are learned from, spread evenly over a longer text


def learn_tokenizer(kind: str, corpus: Corpus, min_count: int, vocab_size: int) -> Tokenizer:
    """Returns a tokenizer of that kind. Words and byte pairs are learned from the training part alone; the characters are
    those of all parts, since an unknown one could not be scored at all."""
    if kind == "char":
        return train_tokenizer(kind, chain.from_iterable(parts_of(corpus)))
    if kind == "whitespace":
        return train_tokenizer(kind, corpus.train)  # all of it: each of its words is in the vocabulary
    return train_tokenizer(kind, sample(corpus.train, corpus.train.characters), min_count=min_count, vocab_size=vocab_size)


def beginning(text: str, tokenizer: Tokenizer, most: int) -> str:
    """Returns the beginning of a text that has at most so many tokens, whole lines where that is possible; all of it for most = 0."""
    if not most:
        return text
    read = 4 * most  # characters
    while len(tokenizer.encode(text[:read])) < most and read < len(text):
        read *= 2
    cut = text[:read]
    while (tokens := len(tokenizer.encode(cut))) > most:
        shorter = cut[: min(len(cut) - 1, len(cut) * most // tokens)]
        lines = shorter.rfind("\n") + 1
        cut = shorter[:lines] if 2 * lines >= len(shorter) else shorter
    return cut


def parts_of(corpus: Corpus) -> list[Part]:
    """Returns the parts that there are: for training, for validation, and for the test."""
    return [corpus.train, corpus.validation, *([corpus.test] if corpus.test else [])]


def sample(pieces: Iterable[str], characters: int, most: int = SAMPLE) -> Iterator[str]:
    """Returns every n-th piece of a text of so many characters, with n such that about `most` characters remain."""
    step = -(-characters // most)
    return (piece for i, piece in enumerate(pieces) if i % step == 0)


def token_ids(part: Part, tokenizer: Tokenizer) -> np.ndarray:
    """Returns the ids of a part: int64 in memory, or mapped from a file of the cache, which is made if it is missing or
    damaged. Its name is a digest of the text and of the tokenizer. Raises DataError for a user without a home, and for a text
    that changes while it is read."""
    if part.characters <= IN_MEMORY:
        return encoded(part, "".join(part), tokenizer)
    name = hashlib.sha256(part.digest.encode() + tokenizer_digest(tokenizer)).hexdigest()[:32]
    try:
        folder = private_folder("tokens", "*.tokens")
        remove_abandoned(folder)
        path = folder / f"{name}.tokens"
        if path.exists():
            try:
                return open_tokens(path, tokenizer)
            except DataError:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"no place for token files ({error}): set TINYLM_CACHE to a folder of your own") from error
    try:
        write_tokens(path, part, tokenizer)
    except DataError as error:
        if (found := unknown_character_error(part, tokenizer)) is not None:
            raise found from error
        raise
    return open_tokens(path, tokenizer)


def encoded(part: Part, text: str, tokenizer: Tokenizer) -> np.ndarray:
    """Returns the ids of a part's text. Raises DataError for what the tokenizer cannot encode, with the file and the line."""
    try:
        return tokenizer.encode(text)
    except DataError as error:
        if (found := unknown_character_error(part, tokenizer)) is not None:
            raise found from error
        raise


def unknown_character_error(part: Part, tokenizer: Tokenizer) -> DataError | None:
    """Returns the error about the first character of a part that a tokenizer of characters does not know; None if it knows all."""
    if not isinstance(tokenizer, CharTokenizer) or (found := first_unknown(part, tokenizer.characters)) is None:
        return None
    known = "".join(tokenizer.characters[:100])
    more = "" if tokenizer.vocab_size <= 100 else f" and {tokenizer.vocab_size - 100} more"
    return DataError(f"{found[1]}: unknown character {found[0]!r} (U+{ord(found[0]):04X}): the model knows {known!r:.200}{more}")


def first_unknown(text: str | Part | Corpus, known: Collection[str]) -> tuple[str, str] | None:
    """Returns (the first character that is not among those known, where it stands: the file and the line); None if all are known."""
    letters = set(known)
    if isinstance(text, str):
        return _first_unknown([text], letters, "the text", 0, len(text))
    for part in parts_of(text) if isinstance(text, Corpus) else [text]:
        for file in part.files:
            stop = file.characters if part.stop is None else part.stop
            if found := _first_unknown(pieces_of(file.path, part.encoding), letters, str(file.path), part.start, stop):
                return found
    return None


def _first_unknown(pieces: Iterable[str], known: set[str], name: str, start: int, stop: int) -> tuple[str, str] | None:
    """The same of one text in pieces, from one character of it up to another one."""
    at, line = 0, 1
    for piece in pieces:
        first, end = max(0, start - at), max(0, stop - at)
        if unknown := set(piece[first:end]) - known:
            where = min(piece.index(character, first) for character in unknown)
            return piece[where], f"{name}, line {line + piece.count(chr(10), 0, where)}"
        at, line = at + len(piece), line + piece.count("\n")
    return None
