"""The arguments of a check: floating ones as float64 tensors, each element with memory of its own."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from tinylm.engine.arrays import array_module
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError

_SPARSE = 64  # elements of memory for each element of an array, above which its strides are not kept


def argument_names(function: Any, count: int) -> list[str]:
    """Returns what a function calls its first arguments, by position; "argument 0" and so on where its signature does not say."""
    body = getattr(getattr(function, "op", None), "body", function)
    named: list[str] = []
    with suppress(TypeError, ValueError):  # no signature
        for p in inspect.signature(body).parameters.values():
            if p.kind not in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
                break
            named.append(p.name)
    return [named[i] if i < len(named) else f"argument {i}" for i in range(count)]


def variables_of(arrays: Sequence[Any], names: Sequence[str] | None = None) -> tuple[list[Any], list[tuple[str, Tensor]]]:
    """Returns the arguments for the function, and the floating ones among them as (name, float64 tensor).

    names: of the arguments; by default "argument 0" and so on. A NumPy array is copied with its strides. A tensor is used
    itself; where it occurs again, a copy stands for it, so that the two places have a gradient each.
    Raises ConfigError for a tensor that is not float64.
    """
    variables: list[tuple[str, Tensor]] = []

    def prepared(x: Any, label: str) -> Any:
        if isinstance(x, (list, tuple)) and x and all(map(_is_floating, x)):
            return [prepared(member, f"{label}[{i}]") for i, member in enumerate(x)]
        if not _is_floating(x):
            return x
        tensor = x if isinstance(x, Tensor) else Tensor(copied(x, np.dtype(np.float64)))
        if tensor.dtype != np.float64:
            raise ConfigError(f"gradcheck: {label} is a tensor of dtype {tensor.dtype}: expected float64 (module.to(dtype='float64'))")
        if any(tensor is other for _, other in variables):
            tensor = Tensor(copied(tensor.data, tensor.dtype))
        variables.append((label, tensor))
        return tensor

    labels = [f"argument {i}" for i in range(len(arrays))] if names is None else names
    return [prepared(x, label) for x, label in zip(arrays, labels, strict=True)], variables


def _is_floating(x: Any) -> bool:
    """True for a floating array or tensor; a NumPy scalar is a number."""
    return not isinstance(x, np.generic) and getattr(getattr(x, "dtype", None), "kind", None) == "f"


def copied(x: Any, dtype: Any) -> Any:
    """Returns a copy with the strides of x, counted in elements, unless elements of x overlap or lie far apart."""
    if not isinstance(x, np.ndarray):
        return array_module(x).array(x, dtype=dtype)
    steps = [stride // x.itemsize if n > 1 else 0 for n, stride in zip(x.shape, x.strides, strict=True)]
    extent = 1 + sum((n - 1) * abs(step) for n, step in zip(x.shape, steps, strict=True) if n > 1)
    overlap, compact = _overlap(x), x.flags.c_contiguous or x.flags.f_contiguous
    if overlap or compact or extent > _SPARSE * x.size or any(stride % x.itemsize for stride in x.strides):
        return np.array(x, dtype=dtype, order="C" if overlap else "K")
    memory = np.zeros(extent, dtype)
    first = sum((n - 1) * -step for n, step in zip(x.shape, steps, strict=True) if step < 0)
    copy = np.lib.stride_tricks.as_strided(memory[first:], x.shape, [step * memory.itemsize for step in steps])
    copy[...] = x
    return copy


def _overlap(x: np.ndarray) -> bool:
    """True if two elements may share memory."""
    reach = 0
    for step, n in sorted((abs(step), n) for n, step in zip(x.shape, x.strides, strict=True) if n > 1):
        if step <= reach:
            return True
        reach += (n - 1) * step
    return False


@contextmanager
def own_memory(variables: Sequence[tuple[str, Tensor]]) -> Iterator[None]:
    """Within it no element of the tensors shares memory with another, and all can be written, so that each moves alone."""
    before = [t.data for _, t in variables]
    try:
        for i, (_, t) in enumerate(variables):
            x = t.data
            if isinstance(x, np.ndarray):
                shared = any(np.may_share_memory(x, other) for other in before[:i] if isinstance(other, np.ndarray))
                if shared or not x.flags.writeable or _overlap(x):
                    t.data = copied(x, x.dtype)
        yield
    finally:
        for (_, t), x in zip(variables, before, strict=True):
            t.data = x
