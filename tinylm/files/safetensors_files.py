"""Safetensors files: their header, the tensors of one file or of a folder, and the writer.

Such a file is 8 bytes with the length of a JSON header, the header (name -> dtype, shape, data_offsets, and the texts
of "__metadata__") and the data. The header is compared with the file's size before anything is believed or allocated.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tinylm.errors import CheckpointError, listed
from tinylm.files.json_files import Fields, parse_json, read_json
from tinylm.files.stored_tensors import StoredTensor, map_file

_NUMPY = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "F16": "<f2", "BF16": "<u2", "U32": "<u4", "I32": "<i4",
    "F32": "<f4", "U64": "<u8", "I64": "<i8", "F64": "<f8",
}  # fmt: skip
_FLOATING = ("F64", "F32", "F16", "BF16")
_MAX_HEADER = 100 << 20  # bytes, the format's own limit
_MAX_AXES, _MAX_ELEMENTS = 32, 1 << 60
INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"


@dataclass(frozen=True)
class TensorEntry:
    """dtype: by the format's name.  start, stop: where its bytes lie in the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class Header:
    """raw: the length and the JSON as they stand in the file."""

    raw: bytes
    tensors: dict[str, TensorEntry]
    metadata: dict[str, Any]


def read_header(file: BinaryIO) -> Header:
    """Reads the header from the beginning of a file.

    Raises ValueError or RecursionError if names, types, sizes and places do not agree with each other and with the file's size.
    """
    size = os.fstat(file.fileno()).st_size
    first = file.read(8)
    length = int.from_bytes(first, "little")
    if size < 8 or length > min(size - 8, _MAX_HEADER):
        raise ValueError(f"its header would have {length} bytes, the file has {size}")
    text = file.read(length)
    try:
        record = parse_json(str(text, "utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its header is no JSON: {error}") from error
    if not isinstance(record, dict):
        raise ValueError(f"its header is a {type(record).__name__}, expected a record of names and tensors")
    metadata = record.pop("__metadata__", None)
    tensors = {name: _entry(name, entry, 8 + length, size) for name, entry in record.items()}
    end = 8 + length
    for start, stop, name in sorted((tensor.start, tensor.stop, name) for name, tensor in tensors.items()):
        if start != end:
            raise ValueError(f"tensor {name!r:.80} begins at byte {start}, expected {end}: tensors may neither overlap nor leave a gap")
        end = stop
    if end != size:
        raise ValueError(f"its tensors end at byte {end}, the file has {size}")
    return Header(first + text, tensors, metadata if isinstance(metadata, dict) else {})


def _entry(name: str, entry: Any, begin: int, size: int) -> TensorEntry:
    """begin: where the data begin."""
    fields: Any = entry if isinstance(entry, dict) else {}
    shape, offsets, dtype = (fields.get(key) for key in ("shape", "data_offsets", "dtype"))
    if not isinstance(dtype, str):
        raise ValueError(f"tensor {name!r:.80}: dtype is {dtype!r:.60}, expected a name such as F32")
    counts = all(isinstance(x, list) and all(type(n) is int and n >= 0 for n in x) for x in (shape, offsets))
    sizes = counts and len(shape) <= _MAX_AXES and math.prod(n or 1 for n in shape) < _MAX_ELEMENTS
    if not sizes or len(offsets) != 2 or not offsets[0] <= offsets[1] <= size - begin:
        raise ValueError(f"tensor {name!r:.80}: shape {shape!r:.60} at {offsets!r:.60} is not within the {size - begin} bytes of data")
    taken = offsets[1] - offsets[0]
    if dtype in _NUMPY and math.prod(shape) * np.dtype(_NUMPY[dtype]).itemsize != taken:
        raise ValueError(f"tensor {name!r:.80}: {taken} bytes for shape {shape!r:.60} of {dtype:.20}")
    return TensorEntry(dtype, tuple(shape), begin + offsets[0], begin + offsets[1])


def read_array(file: BinaryIO, tensor: TensorEntry) -> np.ndarray:
    """Returns a tensor of a file in its own dtype. Raises ValueError for a dtype that NumPy lacks."""
    if tensor.dtype not in _NUMPY or tensor.dtype == "BF16":
        raise ValueError(f"it holds numbers of type {tensor.dtype:.20}, expected one of {', '.join(d for d in _NUMPY if d != 'BF16')}")
    file.seek(tensor.start)
    return np.fromfile(file, _NUMPY[tensor.dtype], math.prod(tensor.shape)).reshape(tensor.shape)


def read_tensors(path: Path) -> dict[str, StoredTensor]:
    """Returns the floating tensors of one file by name, each read when it is asked for; others, such as stored masks, are left out.

    Raises CheckpointError if the file is missing, cut off, or has a header that does not agree with its size.
    """
    try:
        with path.open("rb") as file:
            header = read_header(file)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    data = map_file(path)
    return {name: _stored(name, data, tensor) for name, tensor in header.tensors.items() if tensor.dtype in _FLOATING}


def _stored(name: str, data: np.ndarray, tensor: TensorEntry) -> StoredTensor:
    shape, dtype = tensor.shape, np.dtype(_NUMPY[tensor.dtype])
    row = math.prod(shape[1:]) * dtype.itemsize

    def decode(a: int, b: int) -> np.ndarray:
        numbers = np.array(data[tensor.start + a * row : tensor.start + b * row]).view(dtype)  # a copy: the file need not be aligned
        return (bfloat16(numbers) if tensor.dtype == "BF16" else numbers).reshape((b - a, *shape[1:]) if shape else ())

    return StoredTensor(name, shape, decode)


def bfloat16(bits: np.ndarray) -> np.ndarray:
    """Returns the float32 numbers whose upper halves are these uint16."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def read_folder(folder: Path) -> dict[str, StoredTensor]:
    """Returns the tensors of a folder's model.safetensors, or of all files that its index lists.

    Raises CheckpointError if a file is missing or damaged, lies outside the folder, or lacks what the index says it has.
    """
    if (folder / SINGLE).exists() or not (folder / INDEX).exists():
        return read_tensors(folder / SINGLE)
    index = Fields(read_json(folder / INDEX), folder / INDEX)
    weight_map = Fields(index.record.get("weight_map"), f"{folder / INDEX}, weight_map").record
    for name, file in weight_map.items():
        if not isinstance(file, str) or Path(file).name != file or "\\" in file or not file.endswith(".safetensors"):
            raise CheckpointError(f"{folder / INDEX}: {name!r:.80} is in {file!r:.80}, expected a .safetensors file of the same folder")
    found: dict[str, StoredTensor] = {}
    for file in sorted(set(weight_map.values())):
        tensors = read_tensors(folder / file)
        for name in tensors:
            if weight_map.get(name) != file:
                raise CheckpointError(f"{folder / file} holds {name!r:.80}, which {INDEX} puts into {weight_map.get(name)!r:.80}")
        found |= tensors
    if lacking := [f"{name!r:.80} ({file:.80})" for name, file in weight_map.items() if name not in found]:
        raise CheckpointError(f"{folder}: tensors that {INDEX} lists are missing or not floating: {listed(lacking)}")
    return found


def serialize(arrays: Mapping[str, np.ndarray], metadata: dict[str, str] | None = None) -> bytes:
    """Returns the bytes of a file of these arrays."""
    from safetensors.numpy import save

    # safetensors writes raw memory: anything but a contiguous array would be saved wrong
    return save({name: np.ascontiguousarray(a).reshape(a.shape) for name, a in arrays.items()}, metadata=metadata)
