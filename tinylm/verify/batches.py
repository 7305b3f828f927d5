"""Arguments and results as comparisons take them: nested, some of them tensors."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tinylm.engine.devices import to_device
from tinylm.engine.tensor import Tensor


def as_tensors(x: Any, device: str, dtype: str = "float64") -> Any:
    """A tensor that requires a gradient for a floating array, the array on the device for others;
    lists and tuples (indices) member by member, anything else as it is."""
    if isinstance(x, (list, tuple)):
        return type(x)(as_tensors(member, device, dtype) for member in x)
    if not isinstance(x, np.ndarray):
        return x
    if x.dtype.kind != "f":
        return to_device(x, device)
    return Tensor(to_device(x.astype(dtype), device), requires_grad=True)


def members(x: Any) -> Iterator[Any]:
    """What nested tuples, lists and mappings hold, without the Nones."""
    if isinstance(x, Mapping):
        x = list(x.values())
    if isinstance(x, (tuple, list)):
        for member in x:
            yield from members(member)
    elif x is not None:
        yield x


def named_arguments(batch: Any, device: str, dtype: str = "float64") -> dict[str, Any]:
    """The arguments by position ("0", "1", ...) or name, arrays as tensors; an array given twice is one tensor."""
    named = dict(batch) if isinstance(batch, Mapping) else {str(i): x for i, x in enumerate(batch)}
    once = {id(x): as_tensors(x, device, dtype) for x in named.values()}
    return {k: Tensor(once[id(x)]) if isinstance(x, np.ndarray) and x.dtype.kind != "f" else once[id(x)] for k, x in named.items()}


def called(model: Any, batch: Any, arguments: dict[str, Any]) -> Any:
    """model(...) with these arguments, by name where the batch is a mapping."""
    return model(**arguments) if isinstance(batch, Mapping) else model(*arguments.values())


def floating_arguments(arguments: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """("argument name", tensor) for every floating one, also inside tuples."""
    for k, x in arguments.items():
        several = list(members(x))
        for i, m in enumerate(several):
            if isinstance(m, Tensor) and m.requires_grad:
                yield f"argument {k}" + (f"[{i}]" if len(several) > 1 else ""), m
