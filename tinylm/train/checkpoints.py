"""A model's arrays: collected for a file, digested, and put back from one."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinylm.engine.arrays import Array
from tinylm.engine.devices import to_numpy
from tinylm.errors import CheckpointError
from tinylm.files.signed_arrays import write_arrays
from tinylm.models import NgramLM
from tinylm.nn import Module
from tinylm.nn.lora import adapter_arrays, load_adapters


def save_arrays(path: Path, arrays: Mapping[str, Array], record: dict[str, Any]) -> None:
    """Writes arrays of any device with a record about them; the same array under two names is stored once. Raises CheckpointError."""
    on_cpu = {id(array): to_numpy(array) for array in arrays.values()}
    write_arrays(path, {name: on_cpu[id(array)] for name, array in arrays.items()}, record)


def model_arrays(model: Module) -> dict[str, Array]:
    """Returns the model's own arrays by name, not copied; tied weights are one array under two names. Of a model with
    low-rank adapters, those of the adapters alone."""
    return adapter_arrays(model) or {name: tensor.data for name, tensor in model.named_state()}


def state_digest(model: Module) -> str:
    """Returns the SHA-256 of all parameters and buffers with their names."""
    digest = hashlib.sha256()
    for name, tensor in model.named_state():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(to_numpy(tensor.data)).data)
    return digest.hexdigest()


def set_arrays(model: Module, arrays: Mapping[str, np.ndarray], strict: bool = True) -> None:
    """Fills the model with what `model_arrays` gave. Raises CheckpointError naming what does not fit."""
    if adapter_arrays(model):
        load_adapters(model, arrays)
    else:
        model.load_state_dict(arrays, strict)


def load_arrays(model: Module | NgramLM, arrays: Mapping[str, np.ndarray], path: Path, strict: bool = True) -> None:
    """Fills a model with a file's arrays, which must have its names (all of them if strict), shapes and dtypes.

    Raises CheckpointError.
    """
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
