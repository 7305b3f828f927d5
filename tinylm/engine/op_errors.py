"""What is said when an op fails: which op, the shapes of its arguments and what was expected, in place of NumPy's own words.

Nothing is looked at before an op runs: its body, or NumPy in it, raises an error, and that is explained here.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinylm.errors import AutogradError, AxisError, RangeError, ShapeError, TinylmError

SETTINGS = {"dim": "axis", "dims": "axis", "keepdim": "keepdims", "dim0": "axis1", "dim1": "axis2", "inplace": "a new tensor"}  # PyTorch's
_NUMPYS = ("ufunc", "NumPy", "takes no out")  # in errors of NumPy's functions that got a tensor


def explain(name: str, body: Callable[..., Any], arrays: Sequence[Any], settings: dict[str, Any], error: Exception) -> None:
    """Raises the error of an op again, in words that name the op, its arguments and what was expected; returns if it knows no better
    than the error itself, such as one that a user's body raises."""
    if isinstance(error, TinylmError):
        return
    labels = [f"{label} {a.shape}" for label, a in _labelled(body, arrays) if hasattr(a, "shape")]
    shapes = " and ".join(labels[:4]) or "no arrays"
    if isinstance(error, TypeError):
        said = _type_error(name, body, arrays, settings, error)
        if said:
            raise TypeError(said) from error
        return
    if isinstance(error, np.exceptions.AxisError) and isinstance(error.axis, int):
        n = error.ndim or 0
        expected = f"expected {-n} to {n - 1}" if n else "a tensor without axes has none"
        raise AxisError(f"{name}: axis {error.axis} is out of bounds for array of dimension {n}: {expected} ({shapes})") from error
    if isinstance(error, IndexError):
        if name != "getitem":
            return
        raise RangeError(f"{name}: {error} ({shapes})") from error
    found = _matmul(arrays) if name == "matmul" else _broadcast(arrays) if "broadcast" in str(error) else ""
    if name == "reshape" and "cannot reshape" in str(error):
        size = arrays[0].size
        found = f"expected sizes whose product is {size} (one may be -1): {error}"
    if name in ("concatenate", "stack"):
        alike = "equal shapes" if name == "stack" else f"equal lengths but for axis {settings.get('axis', 0)}, along which they are joined"
        found = f"expected {alike}"
    if name == "transpose":
        found = f"expected each axis once, {', '.join(map(str, range(arrays[0].ndim)))} in any order"
    if found:
        raise ShapeError(f"{name}: {shapes}: {found}") from error


def refuse_second_order(name: str, error: Exception) -> None:
    """Raises AutogradError if a body or vjp that was to run on tensors has called a function of NumPy's."""
    if any(word in str(error) for word in _NUMPYS):
        raise AutogradError(
            f"create_graph=True runs {name} on tensors, and it calls NumPy's own functions: begin its body with "
            "xp = tinylm.array_module(x) and call xp.exp in place of np.exp, or give a twin made of other ops, @op(composed=...)"
        ) from error


def _labelled(body: Callable[..., Any], arrays: Sequence[Any]) -> list[tuple[str, Any]]:
    """Returns the arrays with their names in the body's signature."""
    parameters = inspect.signature(body).parameters.values()
    names = [p.name for p in parameters if p.kind is p.POSITIONAL_ONLY] or [p.name for p in parameters]
    return [(names[i] if i < len(names) > 1 or len(arrays) == 1 else f"{names[0]}[{i}]", a) for i, a in enumerate(arrays)]


def _type_error(name: str, body: Callable[..., Any], arrays: Sequence[Any], settings: dict[str, Any], error: TypeError) -> str:
    surplus = next((s for s in settings if s in SETTINGS and f"unexpected keyword argument {s!r}" in str(error)), None)
    if surplus is not None:
        return f"{error}: as in NumPy, it is called {SETTINGS[surplus]!r} here"
    absent = [label for label, a in _labelled(body, arrays) if a is None]
    if absent and "NoneType" in str(error):
        return f"{name}: {' and '.join(absent)} is None: expected a tensor, an array or a number"
    return ""


def _matmul(arrays: Sequence[Any]) -> str:
    """Returns why two arrays cannot be multiplied."""
    a, b = (getattr(x, "shape", ()) for x in arrays[:2])
    if not a or not b:
        return "each needs at least one axis; multiply by a number with *"
    rows = b[-2] if len(b) > 1 else b[0]
    if a[-1] != rows:
        where = "second to last axis of b" if len(b) > 1 else "axis of b"
        turned = " (b.T has that)" if len(b) == 2 and b[1] == a[-1] else " (a.T has that)" if len(a) == 2 and a[0] == rows else ""
        return f"the last axis of a has length {a[-1]}, the {where} {rows}: expected equal lengths{turned}"
    return f"the axes before the last two, {a[:-2]} and {b[:-2]}, cannot be broadcast together"


def _broadcast(arrays: Sequence[Any]) -> str:
    """Returns why arrays cannot be broadcast together; "" if they can."""
    shapes = [a.shape for a in arrays if hasattr(a, "shape")]
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        for back in range(1, max(map(len, shapes)) + 1):
            lengths = {s[-back] for s in shapes if len(s) >= back} - {1}
            if len(lengths) > 1:
                found = " and ".join(map(str, sorted(lengths)))
                return f"cannot be broadcast together: axis {-back} has the lengths {found}: expected equal ones, or 1"
    return ""
