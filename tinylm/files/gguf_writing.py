"""GGUF files written, version 3: metadata, then the places of the tensors, then their numbers as F32.

The format is that of https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; `gguf_files.py` reads it.
"""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinylm.errors import ConfigError
from tinylm.files.atomic import write_atomically

_ALIGNMENT = 32
_STRING, _ARRAY = 8, 9
_SCALARS: dict[type, tuple[int, str]] = {bool: (7, "<?"), int: (4, "<I"), float: (6, "<f")}  # type number, struct's letter
_ELEMENTS: dict[type, tuple[int, str]] = {int: (5, "i"), float: (6, "f")}  # of arrays, where llama.cpp expects int32


def write_gguf(path: Path, metadata: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> None:
    """Writes a file of these arrays as F32, whole or not at all.

    metadata: bools, whole numbers from 0 to below 2^32, floats (stored as float32), texts, and lists of whole numbers, floats or texts.
    Raises ConfigError for another value; CheckpointError if the file cannot be written.
    """
    head = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    head += [_text(name) + _value(name, value) for name, value in metadata.items()]
    place, data = 0, list[bytes | memoryview]()
    for name, a in tensors.items():
        numbers = np.ascontiguousarray(a, "<f4")
        head.append(_text(name) + struct.pack(f"<I{a.ndim}QIQ", a.ndim, *reversed(a.shape), 0, place))
        gap = -numbers.nbytes % _ALIGNMENT
        data += [numbers.reshape(-1).view(np.uint8).data, bytes(gap)]
        place += numbers.nbytes + gap
    head.append(bytes(-sum(map(len, head)) % _ALIGNMENT))
    write_atomically(path, *head, *data)


def _text(value: str) -> bytes:
    raw = value.encode("utf-8")
    return struct.pack("<Q", len(raw)) + raw


def _value(name: str, value: Any) -> bytes:
    """Returns the type and the bytes of a value."""
    if isinstance(value, str):
        return struct.pack("<I", _STRING) + _text(value)
    if isinstance(value, list):
        kinds = {type(x) for x in value} or {str}
        if kinds == {str}:
            return struct.pack("<IIQ", _ARRAY, _STRING, len(value)) + b"".join(map(_text, value))
        if len(kinds) == 1 and (kind := kinds.pop()) in _ELEMENTS:
            number, letter = _ELEMENTS[kind]
            return struct.pack("<IIQ", _ARRAY, number, len(value)) + struct.pack(f"<{len(value)}{letter}", *value)
    elif type(value) in _SCALARS and (type(value) is not int or 0 <= value < 1 << 32):
        number, letter = _SCALARS[type(value)]
        return struct.pack("<I", number) + struct.pack(letter, value)
    raise ConfigError(f"metadata {name!r:.60}: {value!r:.60} cannot be stored in a GGUF file")
