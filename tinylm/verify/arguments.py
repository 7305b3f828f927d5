"""Arguments and results as checks take them: nested lists, tuples and mappings, of which some members are arrays or tensors."""

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from tinylm.engine.devices import to_device
from tinylm.engine.tensor import Tensor
from tinylm.nn import Module
from tinylm.verify.inputs import argument_names


def mapped(x: Any, function: Callable[[np.ndarray], Any]) -> Any:
    """Returns x with function(array) in place of every NumPy array, also inside lists and tuples."""
    if isinstance(x, (list, tuple)):
        return type(x)(mapped(member, function) for member in x)
    return function(x) if isinstance(x, np.ndarray) else x


def on_device(x: Any, device: str, dtype: Any = None) -> Any:
    """Returns x with its arrays on the device, floating ones in `dtype` if that is given."""
    return mapped(x, lambda a: to_device(a.astype(dtype) if dtype is not None and is_floating(a) else a, device))


def as_tensors(x: Any, device: str, dtype: str) -> Any:
    """Returns x with tensors that require a gradient for floating arrays, and its other arrays (indices) on the device."""

    def converted(a: np.ndarray) -> Any:
        return Tensor(on_device(a, device, dtype), requires_grad=True) if is_floating(a) else to_device(a, device)

    return mapped(x, converted)


def is_floating(x: Any) -> bool:
    """True for a floating NumPy array."""
    return isinstance(x, np.ndarray) and x.dtype.kind == "f"


def members(x: Any) -> Iterator[Any]:
    """Yields what nested tuples, lists and mappings hold, without the Nones."""
    if isinstance(x, Mapping):
        x = list(x.values())
    if isinstance(x, (tuple, list)):
        for member in x:
            yield from members(member)
    elif x is not None:
        yield x


def named_arguments(batch: Any, convert: Callable[[Any], Any]) -> dict[str, Any]:
    """Returns the converted arguments by position ("0", "1", ...) or name; one that is given twice is converted once."""
    named = dict(batch) if isinstance(batch, Mapping) else {str(i): x for i, x in enumerate(batch)}
    once = {id(x): convert(x) for x in named.values()}
    return {k: once[id(x)] for k, x in named.items()}


def prepared(model: Module, batch: Any, dtype: str = "float64") -> tuple[Module, dict[str, Any]]:
    """Returns a copy of the model in `dtype`, and its arguments by position or name as tensors on its device."""
    ours = copy.deepcopy(model).to(dtype=dtype)
    device = next((p.device for p in ours.parameters()), "cpu")

    def converted(x: Any) -> Any:
        made = as_tensors(x, device, dtype)
        return Tensor(made) if isinstance(x, np.ndarray) and not isinstance(made, Tensor) else made

    return ours, named_arguments(batch, converted)


def outputs_of(model: Any, batch: Any, arguments: dict[str, Any]) -> list[Any]:
    """Returns the outputs of the model for these arguments, given by name where the batch is a mapping."""
    return list(members(model(**arguments) if isinstance(batch, Mapping) else model(*arguments.values())))


def floating_arguments(arguments: dict[str, Any], model: Module) -> Iterator[tuple[str, Any]]:
    """Yields ("x (argument 0)", tensor) for every floating one, also inside tuples; ("argument x", tensor) for one given by name."""
    called = dict(zip(arguments, argument_names(model.forward, len(arguments)), strict=True))
    for k, x in arguments.items():
        several = list(members(x))
        known = k.isdecimal() and called[k] != f"argument {k}"
        for i, m in enumerate(several):
            if isinstance(m, Tensor) and m.requires_grad:
                part = f"[{i}]" if len(several) > 1 else ""
                yield f"{called[k]}{part} (argument {k})" if known else f"argument {k}{part}", m
