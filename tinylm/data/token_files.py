"""Token ids of a text larger than memory: written once in a stream, then mapped into memory.

A file is a header of 128 bytes (little-endian: magic, version, bytes per token, vocabulary, number of tokens, SHA-256 of the
tokenizer, CRC-32 of the tokens, CRC-32 of the header up to here, zeros) and the ids, uint16 if the vocabulary has at most
65,536 tokens, else uint32.
"""

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tinylm.data.tokenizers import Tokenizer
from tinylm.errors import DataError
from tinylm.files.atomic import atomic_file
from tinylm.files.cache import only_ours
from tinylm.files.regular_files import cut_after_mapping

MAGIC, VERSION = b"tinylmID", 1
HEADER = 128  # bytes, the padding included
_FIELDS = struct.Struct("<8sIIQQ32sI")
_READ = 1 << 22  # bytes read at once


def tokenizer_digest(tokenizer: Tokenizer) -> bytes:
    """Returns the SHA-256 of the tokenizer's record: 32 bytes."""
    return hashlib.sha256(json.dumps(tokenizer.to_json(), sort_keys=True).encode("utf-8", "surrogatepass")).digest()


def token_dtype(vocab_size: int) -> np.dtype:
    return np.dtype("<u2" if vocab_size <= 2**16 else "<u4")


def write_tokens(path: Path, pieces: Iterable[str], tokenizer: Tokenizer) -> None:
    """Tokenizes a text, given in pieces, into a file that is there whole or not at all. Raises DataError for a full disk."""
    dtype, count, crc = token_dtype(tokenizer.vocab_size), 0, 0
    try:
        with atomic_file(path) as file:
            file.write(bytes(HEADER))
            for piece in pieces:
                raw = tokenizer.encode(piece).astype(dtype).tobytes()
                file.write(raw)
                count, crc = count + len(raw) // dtype.itemsize, zlib.crc32(raw, crc)
            file.seek(0)
            fields = _FIELDS.pack(MAGIC, VERSION, dtype.itemsize, tokenizer.vocab_size, count, tokenizer_digest(tokenizer), crc)
            file.write(fields + struct.pack("<I", zlib.crc32(fields)))
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}") from error


class MappedTokens(np.memmap):
    """Ids of a file, mapped read-only; each access compares the file's size first."""

    def __getitem__(self, index: Any) -> Any:
        """Returns the ids at these places, as a plain array. Raises DataError if the file was cut since it was opened."""
        if problem := cut_after_mapping(self):
            raise DataError(problem)
        return np.ndarray.__getitem__(self.view(np.ndarray), index)


def open_tokens(path: Path, tokenizer: Tokenizer) -> np.ndarray:
    """Returns the ids of a file by `write_tokens`, mapped read-only.

    First all of it is read once, in pieces, and compared with its checksum and the vocabulary. Raises DataError for a file
    that is missing, cut short, damaged, of another tokenizer or version, or that another user can write to.
    """
    try:
        with path.open("rb") as file:
            if not only_ours(os.fstat(file.fileno())):
                raise DataError(f"{path} belongs to another user, or others may write to it")
            head = file.read(HEADER)
            if len(head) < HEADER or head[:8] != MAGIC:
                raise DataError(f"{path} is not a token file")
            _, version, itemsize, vocab, count, digest, crc = _FIELDS.unpack_from(head)
            if version != VERSION:
                raise DataError(f"{path} has version {version} of the token files: expected {VERSION}")
            if struct.unpack_from("<I", head, _FIELDS.size)[0] != zlib.crc32(head[: _FIELDS.size]):
                raise DataError(f"{path} is damaged: its header does not fit its checksum")
            dtype = token_dtype(tokenizer.vocab_size)
            if (vocab, itemsize, digest) != (tokenizer.vocab_size, dtype.itemsize, tokenizer_digest(tokenizer)):
                raise DataError(f"{path} holds tokens of another tokenizer, with {vocab:,} kinds: expected {tokenizer.vocab_size:,}")
            size, expected = os.fstat(file.fileno()).st_size, HEADER + count * itemsize
            if size != expected:
                raise DataError(f"{path} is damaged: {size:,} bytes, expected {expected:,}")
            found, at = 0, 0
            while raw := file.read(_READ):
                piece = np.frombuffer(raw, dtype)
                if int(piece.max()) >= vocab:
                    where = at + int(np.argmax(piece >= vocab))
                    raise DataError(f"{path} is damaged: token {int(piece[where - at])} at {where}: expected 0 to {vocab - 1}")
                found, at = zlib.crc32(raw, found), at + len(piece)
            if found != crc:
                raise DataError(f"{path} is damaged: its tokens do not fit their checksum")
            return MappedTokens(file, dtype, "r", HEADER, (count,)) if count else np.zeros(0, dtype)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
