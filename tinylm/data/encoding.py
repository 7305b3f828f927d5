"""From a corpus to token ids: in memory where they are few, else from a file that is made once and kept."""

import hashlib
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np

from tinylm.data.corpus import Corpus, Part
from tinylm.data.token_files import open_tokens, tokenizer_digest, write_tokens
from tinylm.data.tokenizers import Tokenizer, train_tokenizer
from tinylm.errors import DataError
from tinylm.files.cache import cache_folder

IN_MEMORY = 8_000_000  # characters; a longer part is mapped from a file
SAMPLE = 64_000_000  # characters that words and byte pairs are learned from, spread evenly over a longer text


def learn_tokenizer(kind: str, corpus: Corpus, min_count: int, vocab_size: int) -> Tokenizer:
    """The tokenizer of that kind. Words and byte pairs are learned from the training part alone; the
    characters are those of both parts, since an unknown one could not be scored at all."""
    if kind == "char":
        return train_tokenizer(kind, chain(corpus.train, corpus.validation))
    return train_tokenizer(kind, sample(corpus.train, corpus.train.characters), min_count=min_count, vocab_size=vocab_size)


def sample(pieces: Iterable[str], characters: int, most: int = SAMPLE) -> Iterator[str]:
    """Every n-th piece of a text of so many characters, such that there are about `most` at most."""
    step = -(-characters // most)
    return (piece for i, piece in enumerate(pieces) if i % step == 0)


def token_cache() -> Path:
    """The folder of the token files, in tinylm's cache for each user. Errors: DataError for a user without a home."""
    try:
        return cache_folder("tokens")
    except FileNotFoundError as error:
        raise DataError(f"no place for token files ({error}): set TINYLM_CACHE to a folder") from error


def token_ids(part: Part, tokenizer: Tokenizer) -> np.ndarray:
    """The ids of a part: int64 in memory, or mapped from a file of the cache, which is made where it is not
    there or is damaged. Its name is made of the contents of the text and of the tokenizer."""
    if part.characters <= IN_MEMORY:
        return tokenizer.encode("".join(part))
    name = hashlib.sha256(part.digest.encode() + tokenizer_digest(tokenizer)).hexdigest()[:32]
    path = token_cache() / f"{name}.tokens"
    if path.exists():
        try:
            return open_tokens(path, tokenizer)
        except DataError:
            path.unlink(missing_ok=True)
    write_tokens(path, part, tokenizer)
    return open_tokens(path, tokenizer)
