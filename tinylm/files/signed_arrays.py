"""Arrays of a run with a record about them, in one safetensors file that says of itself that it is whole.

The header carries a JSON record under the key "tinylm"; its digest is the SHA-256 of the whole file with the digest
itself written as 64 zeros. Nothing is ever unpickled.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tinylm.errors import CheckpointError
from tinylm.files.atomic import write_atomically
from tinylm.files.json_files import parse_json
from tinylm.files.safetensors_files import Header, read_array, read_header, serialize

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
    try:
        with path.open("rb") as file:
            header = read_header(file)
            said = parse_json(header.metadata["tinylm"]) if isinstance(header.metadata.get("tinylm"), str) else None
            if not isinstance(said, dict) or said.get("format") != FORMAT:
                raise CheckpointError(f"{path} is not a checkpoint of this version of tinylm")
            if _digest(header, file, f"{said.get('digest')}") != said.get("digest"):
                raise ValueError("its content does not agree with its digest")
            aliases, record = said.get("aliases"), said.get("record")
            if not isinstance(aliases, dict) or not isinstance(record, dict):
                raise ValueError(f"its aliases and record are {type(aliases).__name__} and {type(record).__name__}, expected records")
            for alias, name in aliases.items():
                if alias in header.tensors or not isinstance(name, str) or name not in header.tensors:
                    raise ValueError(f"{alias!r:.80} is an alias of {name!r:.80}, expected a new name of an array")
            arrays = {name: read_array(file, tensor) for name, tensor in header.tensors.items()}
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except CheckpointError:
        raise
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    return arrays | {alias: arrays[name] for alias, name in aliases.items()}, record


def _digest(header: Header, file: BinaryIO, written: str) -> str:
    """Returns the SHA-256 of a file whose header was read, with the digest that is written in it taken for zeros."""
    found = hashlib.sha256(header.raw.replace(written.encode("utf-8", "replace"), _UNSIGNED.encode(), 1))
    while block := file.read(1 << 20):
        found.update(block)
    return found.hexdigest()
