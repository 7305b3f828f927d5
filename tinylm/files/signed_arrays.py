"""Arrays of a run with a record about them, in one safetensors file that says of itself that it is whole.

The header carries a JSON record under the key "tinylm"; its digest is the SHA-256 of the whole file with the digest
itself written as 64 zeros. Nothing is ever unpickled.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinylm.errors import CheckpointError
from tinylm.files.atomic import write_atomically
from tinylm.files.json_files import parse_json
from tinylm.files.safetensors_files import SafetensorsFile, open_safetensors, serialize

FORMAT = 2
_UNSIGNED = "0" * 64


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], record: dict[str, Any]) -> None:
    """Writes the arrays and the record, whole or not at all. An array given under two names is stored once, with an alias.

    Raises CheckpointError.
    """
    first: dict[int, str] = {}
    aliases = {name: first[id(array)] for name, array in arrays.items() if first.setdefault(id(array), name) != name}
    header = {"digest": _UNSIGNED, "format": FORMAT, "aliases": aliases, "record": record}
    stored = {name: array for name, array in arrays.items() if name not in aliases}
    data = memoryview(serialize(stored, {"tinylm": json.dumps(header)}))
    end = 8 + int.from_bytes(data[:8], "little")
    signed = bytes(data[:end]).replace(_UNSIGNED.encode(), hashlib.sha256(data).hexdigest().encode(), 1)
    write_atomically(path, signed, data[end:])


def read_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Returns (arrays, record) of a file by `write_arrays`, every byte of which agrees with its digest.

    Raises CheckpointError if it is missing, damaged, or not one of tinylm's. Such a file costs no more memory than its
    header: arrays are read when all else is known to be right.
    """
    file = open_safetensors(path)
    try:
        said = parse_json(file.metadata["tinylm"]) if isinstance(file.metadata.get("tinylm"), str) else None
        if isinstance(said, dict) and said.get("format") == FORMAT:
            return _verified(file, said)
        if isinstance(said, dict) and said.get("format") == 1 and "digest" not in said:
            return _read(file, said)  # the first runs kept no digest
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    raise CheckpointError(f"{path} is not a checkpoint of this version of tinylm")


def _verified(file: SafetensorsFile, said: dict[str, Any]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    digest = said.get("digest")
    found = hashlib.sha256(file.header.replace(f"{digest}".encode("utf-8", "replace"), _UNSIGNED.encode(), 1))
    found.update(file.data[:].data)  # the slice sees whether the file was cut since it was mapped
    if found.hexdigest() != digest:
        raise ValueError("its content does not agree with its digest")
    return _read(file, said)


def _read(file: SafetensorsFile, said: dict[str, Any]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    aliases, record = said.get("aliases"), said.get("record")
    if not isinstance(aliases, dict) or not isinstance(record, dict):
        raise ValueError(f"its aliases and record are {type(aliases).__name__} and {type(record).__name__}, expected records")
    for alias, name in aliases.items():
        if alias in file.tensors or not isinstance(name, str) or name not in file.tensors:
            raise ValueError(f"{alias!r:.80} is an alias of {name!r:.80}, expected a new name of an array")
    arrays = {name: tensor.array() for name, tensor in file.tensors.items()}
    return arrays | {alias: arrays[name] for alias, name in aliases.items()}, record
