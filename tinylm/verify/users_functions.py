"""A user's own function, named on the command line as path.py:name."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from tinylm.errors import ConfigError
from tinylm.verify.samples import Sample


def load(target: str) -> tuple[str, Any, Any]:
    """(name, what bears it, the file as a module) of "path.py:name". Errors: ConfigError when there is no such thing."""
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
    """What the file defines under a name. Errors: ConfigError when it does not."""
    if not hasattr(module, name):
        raise ConfigError(f"{module.__file__} defines no {name!r}")
    return getattr(module, name)


def samples_in(module: Any, name: str, seed: int) -> list[Sample]:
    """The calls that `name_samples(rng)` of the file yields: a tuple of arguments each, or a Sample.

    Errors: ConfigError when there is no such generator, or something else in it.
    """
    found = []
    for i, args in enumerate(attribute(module, f"{name}_samples")(np.random.default_rng(seed))):
        if not isinstance(args, (tuple, Sample)):
            raise ConfigError(f"{name}_samples: number {i} is a {type(args).__name__}: expected a tuple of arguments or a Sample")
        found.append(args if isinstance(args, Sample) else Sample(f"sample {i}", args, {}))
    if not found:
        raise ConfigError(f"{name}_samples yields nothing")
    return found
