"""From a corpus to token ids: in memory if they are few, else in a file that is made once and kept."""

import hashlib
from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np

from tinylm.data.corpus import Corpus, Part
from tinylm.data.token_files import open_tokens, tokenizer_digest, write_tokens
from tinylm.data.tokenizers import Tokenizer, train_tokenizer
from tinylm.errors import DataError
from tinylm.files.atomic import remove_abandoned
from tinylm.files.cache import private_folder

IN_MEMORY = 8_000_000  # characters; a longer part is mapped from a file
SAMPLE = 64_000_000  # characters that words and byte pairs are learned from, spread evenly over a longer text


def learn_tokenizer(kind: str, corpus: Corpus, min_count: int, vocab_size: int) -> Tokenizer:
    """Returns a tokenizer of that kind. Words and byte pairs are learned from the training part alone; the characters are
    those of both parts, since an unknown one could not be scored at all."""
    if kind == "char":
        return train_tokenizer(kind, chain(corpus.train, corpus.validation))
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


def sample(pieces: Iterable[str], characters: int, most: int = SAMPLE) -> Iterator[str]:
    """Returns every n-th piece of a text of so many characters, with n such that about `most` characters remain."""
    step = -(-characters // most)
    return (piece for i, piece in enumerate(pieces) if i % step == 0)


def token_ids(part: Part, tokenizer: Tokenizer) -> np.ndarray:
    """Returns the ids of a part: int64 in memory, or mapped from a file of the cache, which is made if it is missing or
    damaged. Its name is a digest of the text and of the tokenizer. Raises DataError for a user without a home, and for a text
    that changes while it is read."""
    if part.characters <= IN_MEMORY:
        return tokenizer.encode("".join(part))
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
    write_tokens(path, part, tokenizer)
    return open_tokens(path, tokenizer)
