"""Which array module an array belongs to: NumPy, CuPy, or tinylm's own ops for tensors.

An array on the CPU is a NumPy array, an array on a GPU is a CuPy array, and nothing else in
tinylm knows the difference: op bodies ask `array_module` for "the NumPy of these arrays".
"""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinylm.engine.array_functions import Array, Namespace
from tinylm.engine.cuda_probe import load_cupy
from tinylm.errors import ShapeError

_numpy = Namespace(np, "scipy.special")
_namespaces: dict[type, Any] = {np.ndarray: _numpy}
_tensor_kinds: set[type] = set()
_BOOLEAN = np.dtype(bool)


def register_tensor_namespace(kind: type, namespace: Any) -> None:
    """Makes `array_module` return `namespace` for Tensors (called once, by tinylm.ops)."""
    _namespaces[kind] = namespace
    _tensor_kinds.add(kind)


def _namespace_of_kind(kind: type) -> Any:
    for base in kind.__mro__:
        if base in _namespaces:
            found = _namespaces[base]
            _namespaces[kind] = found
            if base in _tensor_kinds:
                _tensor_kinds.add(kind)
            return found
    if kind.__module__.split(".")[0] == "cupy":
        return cuda_namespace()
    return None


def array_module(*arrays: Array) -> Any:
    """Returns "the NumPy of these arrays": NumPy's or CuPy's namespace, or tinylm's own ops for Tensors.

    Besides NumPy's names it has `erf`, `erfc`, `sigmoid`, `scatter_add` and `index_add`. None and Python numbers
    belong to every module. As soon as one argument is a Tensor the result is tinylm.ops, so that an op
    body that runs again on tensors records its own derivative.
    """
    found = _numpy
    for a in arrays:
        kind = type(a)
        if kind is np.ndarray:
            continue
        space = _namespaces.get(kind) or _namespace_of_kind(kind)
        if space is None:
            continue
        if kind in _tensor_kinds:
            return space
        found = space
    return found


def constant(x: Array) -> Array:
    """Returns the raw array of a Tensor, and anything else as it is: for masks, indices and shifts without a gradient."""
    return x if type(x) is np.ndarray or not hasattr(x, "requires_grad") else x.data


def raw_module(x: Array) -> Any:
    """Returns NumPy's or CuPy's namespace, even if x is a Tensor."""
    return array_module(constant(x))


def cuda_namespace() -> Any:
    """Returns CuPy's namespace. Raises DeviceError that says which piece is missing and how to get it."""
    if getattr(sys.modules.get("cupy"), "ndarray", None) not in _namespaces:
        cupy = load_cupy()
        _namespaces[cupy.ndarray] = Namespace(cupy, "cupyx.scipy.special")
    return _namespaces[sys.modules["cupy"].ndarray]


def promoted(a: Any, b: Any) -> tuple[Any, Any]:
    """Returns both operands, integers or booleans beside a floating array in its dtype: NumPy makes float64 of float32 and int64."""
    first, second = getattr(a, "dtype", None), getattr(b, "dtype", None)
    if first is second or first is None or second is None:
        return a, b
    if first.kind == "f":
        return a, (b if second.kind == "f" else b.astype(first))
    return (a.astype(second) if second.kind == "f" else a), b


def all_promoted(arrays: Sequence[Any]) -> list[Any]:
    """Returns the members of a sequence as `promoted` returns two operands; Python numbers become arrays."""
    floating = [a for a in arrays if getattr(a, "dtype", _BOOLEAN).kind == "f"]
    if not floating:
        return [*arrays]
    dtype = np.result_type(*(a.dtype for a in floating))
    xp = raw_module(floating[0])
    return [a if getattr(a, "dtype", _BOOLEAN).kind == "f" else xp.asarray(a, dtype) for a in arrays]


def of_one_dtype(op: str, **arrays: Any) -> list[Any]:
    """Returns the arrays by their names, None for missing ones, integers in the dtype of the floating ones.

    Raises ShapeError if one floating array is float64 and another is not: the op would compute in float64, several times as slowly.
    """
    found: dict[Any, str] = {}
    for name, a in arrays.items():
        if getattr(a, "dtype", _BOOLEAN).kind == "f":
            found.setdefault(a.dtype, name)
    if len(found) > 1 and any(dtype.itemsize >= 8 for dtype in found):
        (first, one), (second, other) = list(found.items())[:2]
        problem = f"{op}: {one} is {first}, {other} is {second}: expected one dtype"
        raise ShapeError(f"{problem}; convert one with .astype, or the parameters of a layer with .to(dtype=...)")
    if not found:
        return list(arrays.values())
    dtype = next(iter(found))
    return [a.astype(dtype) if hasattr(a, "dtype") and a.dtype.kind != "f" else a for a in arrays.values()]


def sum_to(x: Array, shape: tuple[int, ...]) -> Array:
    """Returns x summed down to `shape`: the adjoint of broadcasting `shape` up to x.shape."""
    if x.shape == shape:
        return x
    lead = x.ndim - len(shape)
    axes = tuple(range(lead)) + tuple(i + lead for i, n in enumerate(shape) if n == 1 and x.shape[i + lead] != 1)
    x = array_module(x).sum(x, axis=axes, keepdims=True)
    return array_module(x).reshape(x, shape) if lead else x


def sum_like(x: Array, a: Any) -> Array | None:
    """Returns x summed down to the shape of the argument a; None if a is a Python number."""
    if isinstance(a, (int, float)):
        return None
    return x if x.shape == a.shape else sum_to(x, a.shape)


def is_number(x: Any) -> bool:
    """Returns True for a Python number, which has no gradient."""
    return isinstance(x, (int, float))
