"""Run folders: config.json, metrics.jsonl, summary.json, model.safetensors, checkpoints/.

Every file is written whole or not at all: to a temporary file beside it, flushed to the disk, then
renamed. Weights are safetensors files whose header carries a JSON record under the key "tinylm".
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinylm import backend
from tinylm.backend import Array
from tinylm.errors import CheckpointError
from tinylm.nn import Module

FORMAT = 1


def write_atomically(path: Path, data: bytes) -> None:
    """Puts the bytes at path, or leaves what was there. Errors: CheckpointError (full disk, no permission)."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        temporary = None
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)  # so that the new name survives a crash too
        finally:
            os.close(directory)
    except OSError as error:
        raise CheckpointError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def write_json(path: Path, record: Any) -> None:
    """A JSON file, indented, written whole or not at all."""
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    write_atomically(path, text.encode("utf-8", "backslashreplace"))  # an undecodable path becomes a \u escape, which is JSON


def read_json(path: Path) -> Any:
    """What a JSON file holds. Errors: CheckpointError when it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error


def write_arrays(path: Path, arrays: Mapping[str, Array], record: dict[str, Any]) -> None:
    """A safetensors file of the arrays with a JSON record in its header.

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
        stored[name] = np.ascontiguousarray(backend.to_numpy(array)).reshape(array.shape)
    header = {"tinylm": json.dumps({"format": FORMAT, "aliases": aliases, "record": record})}
    write_atomically(path, save(stored, metadata=header))


def read_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(arrays, record) of a file by `write_arrays`.

    Errors: CheckpointError when it is missing, damaged, or not one of tinylm's.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {}).get("tinylm", "null"))
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a checkpoint of this version of tinylm")
    for alias, name in header["aliases"].items():
        arrays[alias] = arrays[name]
    return arrays, header["record"]


def model_arrays(model: Module) -> dict[str, Array]:
    """The model's own arrays by name, not copied; tied weights are one array under two names."""
    return {name: tensor.data for name, tensor in model.named_state()}
