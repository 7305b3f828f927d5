"""Safetensors files: their header, the tensors of one file or of a folder, and the writer.

Such a file is 8 bytes with the length of a JSON header, the header (name -> dtype, shape, data_offsets, and the texts
of "__metadata__") and the data. The header is compared with the file's size before anything is believed or allocated.
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinylm.errors import CheckpointError, listed
from tinylm.files.json_files import Fields, parse_json, read_fields
from tinylm.files.regular_files import exists
from tinylm.files.stored_tensors import KEPT, StoredRows, StoredTensor, map_file

_NUMPY = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "F16": "<f2", "BF16": "<u2", "U32": "<u4", "I32": "<i4",
    "F32": "<f4", "U64": "<u8", "I64": "<i8", "F64": "<f8",
}  # fmt: skip
_FLOATING = ("F64", "F32", "F16", "BF16")
_MAX_HEADER = 100 << 20  # bytes, the format's own limit
_MAX_AXES, _MAX_ELEMENTS = 32, 1 << 60
INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"


def _floats(dtype: str, raw: np.ndarray) -> np.ndarray:
    """Returns the numbers of a tensor's bytes."""
    numbers = np.array(raw).view(_NUMPY[dtype])  # a copy: the file need not be aligned
    return (numbers.astype(np.uint32) << 16).view(np.float32) if dtype == "BF16" else numbers  # upper halves of float32


@dataclass(frozen=True)
class TensorBytes:
    """A tensor as it lies in the file. dtype: by the format's name.  raw: its bytes, mapped into memory."""

    dtype: str
    shape: tuple[int, ...]
    raw: np.ndarray

    def array(self) -> np.ndarray:
        """Returns a copy in the tensor's own dtype. Raises ValueError for a dtype that NumPy lacks."""
        if self.dtype not in _NUMPY or self.dtype == "BF16":
            raise ValueError(f"it holds numbers of type {self.dtype:.20}, which NumPy lacks")
        return np.array(self.raw[:]).view(_NUMPY[self.dtype]).reshape(self.shape)

    def stored(self, name: str) -> StoredTensor:
        """Returns the tensor to be decoded to floats."""
        shape, floats = self.shape, functools.partial(_floats, self.dtype)
        row = math.prod(shape[1:]) * np.dtype(_NUMPY[self.dtype]).itemsize

        def decode(a: int, b: int) -> np.ndarray:
            return floats(self.raw[a * row : b * row]).reshape((b - a, *shape[1:]) if shape else ())

        kept = self.dtype in KEPT and len(shape) == 2 and self.raw.size > 0
        return StoredTensor(name, shape, decode, StoredRows(self.dtype, self.raw.reshape(shape[0], row), floats) if kept else None)


@dataclass(frozen=True)
class SafetensorsFile:
    """header: the bytes before the data.  data: those after it.  metadata: what stands under "__metadata__"."""

    header: bytes
    data: np.ndarray
    tensors: dict[str, TensorBytes]
    metadata: dict[str, Any]


def open_safetensors(path: Path) -> SafetensorsFile:
    """Maps a file; its data are read when a tensor is asked for.

    Raises CheckpointError if it is missing or cut off, or if names, types, sizes and places in its header do not agree with
    each other and with the file's size.
    """
    data = map_file(path)
    try:
        return _parsed(data)
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error


def _parsed(data: np.ndarray) -> SafetensorsFile:
    length = int.from_bytes(data[:8].tobytes(), "little")
    if data.size < 8 or length > min(data.size - 8, _MAX_HEADER):
        raise ValueError(f"its header would have {length} bytes, the file has {data.size}")
    header, body = data[: 8 + length].tobytes(), data[8 + length :]
    try:
        record = parse_json(str(header[8:], "utf-8"))
    except ValueError as error:
        raise ValueError(f"its header is no JSON: {error}") from error
    if not isinstance(record, dict):
        raise ValueError(f"its header is a {type(record).__name__}, expected a record of names and tensors")
    metadata = record.pop("__metadata__", None)
    tensors = {name: _tensor(name, entry, body) for name, entry in record.items()}
    end = 0
    for start, stop, name in sorted((*entry["data_offsets"], name) for name, entry in record.items()):
        if start != end:
            raise ValueError(f"tensor {name!r:.80} begins at {start}, expected {end}: tensors may neither overlap nor leave a gap")
        end = stop
    if end != body.size:
        raise ValueError(f"its tensors end at {end}, and there are {body.size} bytes of data")
    return SafetensorsFile(header, body, tensors, metadata if isinstance(metadata, dict) else {})


def _tensor(name: str, entry: Any, body: np.ndarray) -> TensorBytes:
    fields: Any = entry if isinstance(entry, dict) else {}
    shape, offsets, dtype = (fields.get(key) for key in ("shape", "data_offsets", "dtype"))
    if not isinstance(dtype, str):
        raise ValueError(f"tensor {name!r:.80}: dtype is {dtype!r:.60}, expected a name such as F32")
    counts = all(isinstance(x, list) and all(type(n) is int and n >= 0 for n in x) for x in (shape, offsets))
    sizes = counts and len(shape) <= _MAX_AXES and math.prod(n or 1 for n in shape) < _MAX_ELEMENTS
    if not sizes or len(offsets) != 2 or not offsets[0] <= offsets[1] <= body.size:
        raise ValueError(f"tensor {name!r:.80}: shape {shape!r:.60} at {offsets!r:.60} is not within the {body.size} bytes of data")
    raw = body[offsets[0] : offsets[1]]
    if dtype in _NUMPY and math.prod(shape) * np.dtype(_NUMPY[dtype]).itemsize != raw.size:
        raise ValueError(f"tensor {name!r:.80}: {raw.size} bytes for shape {shape!r:.60} of {dtype}")
    return TensorBytes(dtype, tuple(shape), raw)


def read_tensors(path: Path) -> dict[str, StoredTensor]:
    """Returns the floating tensors of one file by name; integers, such as stored masks, are left out.

    Raises CheckpointError as `open_safetensors` does, and for a tensor of another type, such as F8_E4M3.
    """
    tensors = open_safetensors(path).tensors
    if wrong := [f"{name!r:.80} of {tensor.dtype!r:.20}" for name, tensor in tensors.items() if tensor.dtype not in _NUMPY]:
        raise CheckpointError(f"{path}: tensors of a type that is not among {', '.join(_NUMPY)}: {listed(wrong)}")
    return {name: tensor.stored(name) for name, tensor in tensors.items() if tensor.dtype in _FLOATING}


def read_folder(folder: Path) -> dict[str, StoredTensor]:
    """Returns the tensors of a folder's model.safetensors, or of all files that its index lists.

    Raises CheckpointError if a file is missing or damaged, lies outside the folder, or lacks what the index says it has.
    """
    if exists(folder / SINGLE) or not exists(folder / INDEX):
        return read_tensors(folder / SINGLE)
    weight_map = Fields(read_fields(folder / INDEX).record.get("weight_map"), f"{folder / INDEX}, weight_map").record
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
