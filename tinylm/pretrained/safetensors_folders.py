"""Weights in safetensors files: one, or several that model.safetensors.index.json lists.

Such a file is 8 bytes with the length of a JSON header, the header (name -> dtype, shape, data_offsets)
and the data, which is mapped into memory and read when a tensor is asked for.
"""

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinylm.errors import CheckpointError
from tinylm.files.atomic import write_atomically
from tinylm.files.json_files import Fields, parse_json, read_json
from tinylm.pretrained.stored import Stored

_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_MAX_HEADER = 100 << 20  # bytes, the format's own limit
INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"


def bfloat16(bits: np.ndarray) -> np.ndarray:
    """The upper halves of float32 numbers, as uint16 -> float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def read_tensors(path: Path) -> dict[str, Stored]:
    """The floating tensors of one file by name; others, such as stored masks, are left out.

    Errors: CheckpointError when the file is missing, cut off, or has a header that does not agree with its size.
    """
    try:
        data = np.memmap(path, np.uint8, "r")
    except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
        raise CheckpointError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    length = int.from_bytes(data[:8].tobytes(), "little")
    if data.size < 8 or length > min(data.size - 8, _MAX_HEADER):
        raise CheckpointError(f"{path} is no safetensors file: its header would have {length} bytes, the file has {data.size}")
    try:
        header = parse_json(data[8 : 8 + length].tobytes())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: its header is no JSON: {error}") from error
    found = {}
    places = []
    body = data[8 + length :]
    for name, entry in Fields(header, path).record.items():
        if name != "__metadata__":
            start, stop, shape = _place(path, name, entry, body.size)
            places.append((start, stop, name))
            if entry["dtype"] in _DTYPES:
                found[name] = _stored(name, body[start:stop], entry["dtype"], shape)
    places.sort()
    for (_, stop, a), (start, _, b) in itertools.pairwise(places):
        if start < stop:
            raise CheckpointError(f"{path} is damaged: the tensors {a!r:.80} and {b!r:.80} overlap")
    return found


def _place(path: Path, name: str, entry: Any, size: int) -> tuple[int, int, tuple[int, ...]]:
    """Where a tensor's bytes are, and its shape."""
    fields = Fields(entry, f"{path}, tensor {name!r:.80}").record
    shape: Any
    offsets: Any
    shape, offsets, dtype = (fields.get(key) for key in ("shape", "data_offsets", "dtype"))
    counts = all(isinstance(x, list) and all(type(n) is int and n >= 0 for n in x) for x in (shape, offsets))
    if not isinstance(dtype, str):
        raise CheckpointError(f"{path}, tensor {name!r:.80}: dtype is {dtype!r:.60}, expected a name such as F32")
    if not counts or 0 in shape or len(offsets) != 2 or not offsets[0] <= offsets[1] <= size or len(shape) > 8:
        raise CheckpointError(f"{path}, tensor {name!r:.80}: shape {shape!r:.60} at {offsets!r:.60} is not within the {size} bytes of data")
    if dtype in _DTYPES and math.prod(shape) * np.dtype(_DTYPES[dtype]).itemsize != offsets[1] - offsets[0]:
        raise CheckpointError(f"{path}, tensor {name!r:.80}: {offsets[1] - offsets[0]} bytes for shape {shape!r:.60} of {dtype}")
    return offsets[0], offsets[1], tuple(shape)


def _stored(name: str, raw: np.ndarray, dtype: str, shape: tuple[int, ...]) -> Stored:
    row = math.prod(shape[1:]) * np.dtype(_DTYPES[dtype]).itemsize

    def decode(a: int, b: int) -> np.ndarray:
        numbers = np.frombuffer(raw[a * row : b * row].tobytes(), _DTYPES[dtype])  # a copy: the file need not be aligned
        return (bfloat16(numbers) if dtype == "BF16" else numbers).reshape((b - a, *shape[1:]) if shape else ())

    return Stored(name, shape, decode)


def read_folder(folder: Path) -> dict[str, Stored]:
    """The tensors of a folder's model.safetensors, or of all files that its index lists.

    Errors: CheckpointError when a file is missing or damaged, lies outside the folder, or lacks what the index says it has.
    """
    if (folder / SINGLE).exists() or not (folder / INDEX).exists():
        return read_tensors(folder / SINGLE)
    index = Fields(read_json(folder / INDEX), folder / INDEX)
    listed = Fields(index.record.get("weight_map"), f"{folder / INDEX}, weight_map").record
    for name, file in listed.items():
        if not isinstance(file, str) or Path(file).name != file or "\\" in file or not file.endswith(".safetensors"):
            raise CheckpointError(f"{folder / INDEX}: {name!r:.80} is in {file!r:.80}, expected a .safetensors file of the same folder")
    shards = {file: read_tensors(folder / file) for file in sorted(set(listed.values()))}
    found: dict[str, Stored] = {}
    for file, tensors in shards.items():
        for name, stored in tensors.items():
            if listed.get(name) != file:
                raise CheckpointError(f"{folder / file} holds {name!r:.80}, which {INDEX} puts into {listed.get(name)!r:.80}")
            found[name] = stored
    if lacking := [f"{name!r:.80} ({file})" for name, file in listed.items() if name not in found]:
        raise CheckpointError(f"{folder}: tensors that {INDEX} lists are missing or not floating: {', '.join(lacking[:20])}")
    return found


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """One file of contiguous arrays, marked as PyTorch's, which transformers asks for. Errors: CheckpointError."""
    from safetensors.numpy import save

    write_atomically(path, save(dict(arrays), metadata={"format": "pt"}))
