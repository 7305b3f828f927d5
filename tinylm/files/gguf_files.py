"""GGUF files, versions 2 and 3: metadata, then the places of the tensors, then their data, quantised in blocks.

The format is that of https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The header is read here, and each count and
offset is compared with the file's size before it is believed; the `gguf` library decodes the blocks.
"""

import contextlib
import functools
import itertools
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinylm.errors import CheckpointError
from tinylm.files.stored_tensors import KEPT, StoredRows, StoredTensor, map_file

# type number -> struct's letter; 8 is a string, 9 an array
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MAX_AXES, _MAX_ELEMENTS = 4, 1 << 60


@dataclass(frozen=True)
class GgufFile:
    """The contents of such a file."""

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, StoredTensor]


class _Reader:
    """Reads the header from its beginning on. Each method raises CheckpointError if it would pass the end of the file."""

    def __init__(self, path: Path, data: np.ndarray) -> None:
        self.path, self.data, self.bytes, self.place = path, data, data.data, 0

    def error(self, what: str) -> CheckpointError:
        return CheckpointError(f"{self.path} is not a sound GGUF file: {what}")

    def take(self, size: int, what: str) -> memoryview:
        if size > self.data.size - self.place:
            raise self.error(f"{what} would have {size} bytes at {self.place}, and the file ends at {self.data.size}")
        self.place += size
        return self.bytes[self.place - size : self.place]

    def number(self, letter: str, what: str) -> Any:
        return struct.unpack("<" + letter, self.take(struct.calcsize("<" + letter), what))[0]

    def count(self, what: str, least: int) -> int:
        """Returns a 64-bit count of things that take at least `least` bytes each."""
        count = self.number("Q", what)
        if count * least > self.data.size - self.place:
            raise self.error(f"{count} {what} cannot be in the {self.data.size - self.place} bytes that are left")
        return count

    def string(self, what: str) -> str:
        raw = self.take(self.count(f"bytes of {what}", 1), what)
        try:
            return str(raw, "utf-8")
        except UnicodeDecodeError as error:
            raise self.error(f"{what} is not UTF-8: {error}") from error

    def value(self, kind: int, what: str) -> Any:
        if kind in _NUMBERS:
            return self.number(_NUMBERS[kind], what)
        if kind == _STRING:
            return self.string(what)
        if kind != _ARRAY:
            raise self.error(f"{what} is of type {kind}, expected 0 to 12")
        kind = self.number("I", what)
        if kind in _NUMBERS:
            letter = _NUMBERS[kind]
            size = struct.calcsize("<" + letter)
            raw = self.take(self.count(f"numbers of {what}", size) * size, what)
            return np.frombuffer(raw, np.dtype("<" + letter)).tolist()
        if kind != _STRING:
            raise self.error(f"{what} is an array of type {kind}, expected numbers or strings")
        return self.strings(what)

    def strings(self, what: str) -> list[str]:
        """Returns an array of strings. A vocabulary has 100,000: they are read in one loop, which leaves what is wrong to `string`."""
        count, length_at, end, found = self.count(f"strings of {what}", 8), struct.Struct("<Q").unpack_from, self.data.size, []
        for _ in range(count):
            start = self.place + 8
            stop = start + length_at(self.bytes, self.place)[0] if start <= end else end + 1
            try:
                text = str(self.bytes[start:stop], "utf-8") if stop <= end else self.string(what)
            except UnicodeDecodeError:
                text = self.string(what)
            self.place = stop
            found.append(text)
        return found


def is_gguf(path: Path) -> bool:
    """Returns whether a file begins as GGUF files do, or is named like one. Raises CheckpointError if it cannot be read."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(4) == b"GGUF" or path.suffix == ".gguf"
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error


def read_gguf(path: Path) -> GgufFile:
    """Returns metadata and tensors; the data stay in the file until they are asked for.

    Raises CheckpointError, with what the file says and what it can hold, for anything that does not fit.
    """
    data = map_file(path)
    header = _Reader(path, data)
    if bytes(header.take(4, "the beginning")) != b"GGUF":
        raise header.error("it does not begin with GGUF")
    version = header.number("I", "the version")
    if version not in (2, 3):
        raise header.error(f"version {version}, expected 2 or 3 with the lowest byte first")
    tensors, pairs = header.count("tensors", 24), header.count("pieces of metadata", 13)
    metadata: dict[str, Any] = {}
    for _ in range(pairs):
        name = header.string("a name of metadata")
        if name in metadata:
            raise header.error(f"{name!r:.80} stands twice in its metadata")
        metadata[name] = header.value(header.number("I", f"{name!r:.80}"), f"{name!r:.80}")
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or not 1 <= alignment <= 1 << 16 or alignment & (alignment - 1):
        raise header.error(f"general.alignment is {alignment!r:.40}, expected a power of two up to 65536")
    entries = [_entry(header) for _ in range(tensors)]
    body = data[header.place + -header.place % alignment :]
    found: dict[str, StoredTensor] = {}
    places = []
    for name, shape, kind, offset in entries:
        if name in found:
            raise header.error(f"the tensor {name!r:.80} stands twice")
        found[name], size = _stored(header, name, shape, kind, offset, body, alignment)
        places.append((offset, offset + size, name))
    places.sort()
    for (_, stop, a), (start, _, b) in itertools.pairwise(places):
        if start < stop:
            raise header.error(f"the tensors {a!r:.80} and {b!r:.80} overlap")
    return GgufFile(path, metadata, found)


@functools.cache
def decoded_types() -> dict[int, tuple[str, int, int]]:
    """Returns the types of tensors that the `gguf` library decodes: number -> (name, numbers of a block, bytes of a block)."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

    found = {}
    for kind in GGMLQuantizationType:
        block, size = GGML_QUANT_SIZES[kind]
        with contextlib.suppress(NotImplementedError):  # of types that it can only name
            quants.dequantize(np.zeros(size, np.uint8), kind)
            found[kind.value] = (kind.name, block, size)
    return found


def _entry(header: _Reader) -> tuple[str, tuple[int, ...], int, int]:
    """Returns (name, shape with the rows first, type, offset) of a tensor."""
    name = header.string("a tensor's name")
    axes = header.number("I", f"tensor {name!r:.80}")
    if not 1 <= axes <= _MAX_AXES:
        raise header.error(f"the tensor {name!r:.80} has {axes} axes, expected 1 to {_MAX_AXES}")
    shape = tuple(header.number("Q", f"tensor {name!r:.80}") for _ in range(axes))[::-1]
    return name, shape, header.number("I", f"tensor {name!r:.80}"), header.number("Q", f"tensor {name!r:.80}")


def _stored(
    header: _Reader, name: str, shape: tuple[int, ...], kind: int, offset: int, body: np.ndarray, alignment: int
) -> tuple[StoredTensor, int]:
    """Returns the tensor, and how many bytes it has."""
    from gguf import GGMLQuantizationType, quants

    if kind not in decoded_types():
        names = {t.value: t.name for t in GGMLQuantizationType}
        known = ", ".join(known for known, _, _ in decoded_types().values())
        raise header.error(f"the tensor {name!r:.80} is of type {names.get(kind, kind)}, which is not among {known}")
    quantization = GGMLQuantizationType(kind)
    _, block, size = decoded_types()[kind]
    total = math.prod(shape) // block * size
    if shape[-1] % block or (0 in shape and math.prod(n or 1 for n in shape) >= _MAX_ELEMENTS):
        raise header.error(f"the tensor {name!r:.80} has shape {shape}, its rows expected in blocks of {block}")
    if offset % alignment or offset + total > body.size:
        raise header.error(f"the tensor {name!r:.80} has {total} bytes at {offset}, aligned to {alignment}, of {body.size} bytes of data")
    row = math.prod(shape[1:]) // block * size if len(shape) > 1 else size  # a vector is decoded block by block

    def decode(a: int, b: int) -> np.ndarray:
        if len(shape) == 1:
            return quants.dequantize(np.asarray(body[offset : offset + total]), quantization)[a:b]
        raw = np.asarray(body[offset + a * row : offset + b * row]).reshape(b - a, *shape[1:-1], -1)
        with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is reported with its name
            return quants.dequantize(raw, quantization)

    kept = None
    if quantization.name in KEPT and len(shape) == 2 and total:
        whole = functools.partial(quants.dequantize, qtype=quantization)
        kept = StoredRows(quantization.name, body[offset : offset + total].reshape(shape[0], row), whole)
    return StoredTensor(name, shape, decode, kept), total
