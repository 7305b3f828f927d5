"""The files of a run: written whole or not at all, and read with distrust.

A file is written to a temporary one beside it, flushed to the disk, then renamed. Weights are
safetensors files whose header carries a JSON record under the key "tinylm"; the record's digest is the
SHA-256 of the whole file with the digest itself written as 64 zeros. Nothing is ever unpickled.
"""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tinylm.engine.arrays import Array
from tinylm.engine.devices import to_numpy
from tinylm.errors import CheckpointError
from tinylm.files.atomic import write_atomically
from tinylm.models import NgramLM
from tinylm.nn import Module
from tinylm.nn.lora import adapter_arrays, load_adapters

FORMAT = 2
_UNSIGNED = "0" * 64
_MAX_HEADER = 1 << 24  # bytes; names, shapes and the record of a hundred thousand arrays
_ITEM_SIZES = {
    "BOOL": 1, "U8": 1, "I8": 1, "U16": 2, "I16": 2, "F16": 2, "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip


def read_json(path: Path) -> Any:
    """What a JSON file holds. Errors: CheckpointError when it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error


def write_arrays(path: Path, arrays: Mapping[str, Array], record: dict[str, Any]) -> None:
    """A safetensors file of the arrays with a JSON record in its header, and a digest of it all.

    An array that is the very same memory as an earlier one is stored once, with an alias.
    """
    from safetensors.numpy import save

    stored: dict[str, np.ndarray] = {}
    aliases: dict[str, str] = {}
    first: dict[int, str] = {}
    for name, array in arrays.items():
        if id(array) in first:
            aliases[name] = first[id(array)]
            continue
        first[id(array)] = name
        # safetensors writes raw memory: anything but a contiguous array would be saved wrong
        stored[name] = np.ascontiguousarray(to_numpy(array)).reshape(array.shape)
    header = {"digest": _UNSIGNED, "format": FORMAT, "aliases": aliases, "record": record}
    data = memoryview(save(stored, metadata={"tinylm": json.dumps(header)}))
    end = 8 + int.from_bytes(data[:8], "little")
    signed = bytes(data[:end]).replace(_UNSIGNED.encode(), hashlib.sha256(data).hexdigest().encode(), 1)
    write_atomically(path, signed, data[end:])


def read_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(arrays, record) of a file by `write_arrays`, every byte of which agrees with its digest.

    Errors: CheckpointError when it is missing, damaged, or not one of tinylm's. Such a file costs no
    more memory than its header: arrays are read when all else is known to be right.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with path.open("rb") as file:
            header = _checked_header(file)
            old = isinstance(header, dict) and header.get("format") == 1 and "digest" not in header
            if not isinstance(header, dict) or not (old or header.get("format") == FORMAT):
                raise CheckpointError(f"{path} is not a checkpoint of this version of tinylm")
        with safe_open(path, framework="numpy") as tensors:
            arrays = {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118 (not a dict)
        aliases, record = header["aliases"], header["record"]
        for alias, name in aliases.items():
            if alias in arrays or name not in arrays:
                raise ValueError(f"{alias!r} is an alias of {name!r}, expected a new name of an array")
        if not isinstance(record, dict):
            raise ValueError(f"its record is {type(record).__name__}, expected names and values")
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except CheckpointError:
        raise
    except (SafetensorError, ValueError, RecursionError, AttributeError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    return arrays | {alias: arrays[name] for alias, name in aliases.items()}, record


def _checked_header(file: BinaryIO) -> Any:
    """What stands under "tinylm" in a safetensors header; None for a file of another program.

    Errors: ValueError or RecursionError when sizes, types or the digest do not agree with the file.
    """
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(size - 8, _MAX_HEADER):
        raise ValueError(f"its header would have {length} bytes, the file has {size}")
    raw = file.read(length)
    entries = json.loads(raw)
    metadata = entries.pop("__metadata__", None) if isinstance(entries, dict) else None
    if not isinstance(entries, dict):
        raise ValueError("its header is no record")
    for name, entry in entries.items():
        kind, shape = entry["dtype"], entry["shape"]
        if kind not in _ITEM_SIZES or not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError(f"array {name!r} has dtype {kind!r:.40} and shape {shape!r:.80}")
        if math.prod(shape) * _ITEM_SIZES[kind] > size:
            raise ValueError(f"array {name!r} of shape {shape!r:.80} would be larger than the file")
    header = json.loads(metadata["tinylm"]) if isinstance(metadata, dict) and "tinylm" in metadata else None
    if isinstance(header, dict) and header.get("format") == FORMAT:
        found = hashlib.sha256(length.to_bytes(8, "little") + raw.replace(str(header["digest"]).encode(), _UNSIGNED.encode(), 1))
        while block := file.read(1 << 20):
            found.update(block)
        if found.hexdigest() != header["digest"]:
            raise ValueError("its content does not agree with its digest")
    return header


def model_arrays(model: Module) -> dict[str, Array]:
    """The model's own arrays by name, not copied; tied weights are one array under two names. Of a model with
    low-rank adapters, those of the adapters alone."""
    return adapter_arrays(model) or {name: tensor.data for name, tensor in model.named_state()}


def state_digest(model: Module) -> str:
    """The SHA-256 of all parameters and buffers with their names."""
    digest = hashlib.sha256()
    for name, tensor in model.named_state():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(to_numpy(tensor.data)).data)
    return digest.hexdigest()


def set_arrays(model: Module, arrays: Mapping[str, np.ndarray], strict: bool = True) -> None:
    """The way back from `model_arrays`. Errors: CheckpointError naming what does not fit."""
    if adapter_arrays(model):
        load_adapters(model, arrays)
    else:
        model.load_state_dict(arrays, strict)


def load_arrays(model: Module | NgramLM, arrays: Mapping[str, np.ndarray], path: Path, strict: bool = True) -> None:
    """Fills a model with a file's arrays, which must have its names (all of them if strict), shapes and dtypes.
    Errors: CheckpointError."""
    try:
        if isinstance(model, NgramLM):
            model.load_state_dict(arrays)
            return
        own = model_arrays(model)
        for name in own.keys() & arrays.keys():
            if arrays[name].dtype != own[name].dtype:
                raise CheckpointError(f"{name!r} is of {arrays[name].dtype}, expected {own[name].dtype}")
        set_arrays(model, arrays, strict)
    except CheckpointError as error:
        raise CheckpointError(f"{path} does not hold the model that config.json describes: {error}") from error
