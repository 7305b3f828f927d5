"""Loads a user's function, named on the command line as path.py:name."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from tinylm.errors import ConfigError
from tinylm.verify.samples import Sample


def load(target: str) -> tuple[str, Any, Any]:
    """Returns (name, the object of that name, the file as a module) for "path.py:name". Raises ConfigError if it does not exist."""
    path, colon, name = target.rpartition(":")
    if not colon or not Path(path).is_file():
        raise ConfigError(f"{target!r}: expected path.py:name, with a file that exists")
    spec: Any = importlib.util.spec_from_file_location(Path(path).stem, path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    return name, attribute(module, name), module


def attribute(module: Any, name: str) -> Any:
    """Returns what the file defines under a name. Raises ConfigError if it defines nothing under it."""
    if not hasattr(module, name):
        raise ConfigError(f"{module.__file__} defines no {name!r}")
    return getattr(module, name)


def samples_in(module: Any, name: str, seed: int) -> list[Sample]:
    """Returns the calls that `name_samples(rng)` of the file yields, each as a tuple of arguments or a Sample.

    Raises ConfigError if there is no such generator, or if it yields something else.
    """
    found = []
    for i, args in enumerate(attribute(module, f"{name}_samples")(np.random.default_rng(seed))):
        if not isinstance(args, (tuple, Sample)):
            raise ConfigError(f"{name}_samples: number {i} is a {type(args).__name__}: expected a tuple of arguments or a Sample")
        found.append(args if isinstance(args, Sample) else Sample(f"sample {i}", args, {}))
    if not found:
        raise ConfigError(f"{name}_samples yields nothing")
    return found
