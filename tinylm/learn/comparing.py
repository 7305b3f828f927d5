"""Compares what a learner's function returns with what was expected, and says where they differ and the likely reason."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tinylm.engine.tensor import Tensor
from tinylm.learn.work import Work


def as_array(x: Any) -> np.ndarray:
    """Returns the numbers of a tensor, an array, a number or a list."""
    return x.numpy() if isinstance(x, Tensor) else np.asarray(x)


def compare(
    work: Work,
    what: str,
    got: Any,
    expected: Any,
    *,
    causes: Mapping[str, Any] | None = None,
    tolerance: float = 1e-10,
    where: Any = None,
) -> None:
    """Raises Wrong unless `got` is the expected array, up to a tolerance relative to its largest element.

    what: what is compared, as the message names it. causes: by the phrase, what a known mistake would have given instead.
    where: the learner's function, whose line the message names.
    """
    if got is None and what.startswith("the gradient"):
        raise work.wrong(f"{what} is None", "no gradient reaches it", where)
    if got is None or got is Ellipsis:
        raise work.wrong(f"{what}: nothing is returned", "a `return` is missing, or the gap is not filled", where)
    right = as_array(expected)
    try:
        found = as_array(got)
    except (TypeError, ValueError) as error:
        raise work.wrong(f"{what} is no array: {error}", "", where) from error
    if found.dtype.kind not in "biuf":
        raise work.wrong(f"{what} is a {type(got).__name__}: expected numbers of shape {right.shape}", "", where)
    if found.shape != right.shape:
        raise work.wrong(f"{what} has shape {found.shape}: expected {right.shape}", _of_shape(found, right), where)
    scale = max(float(np.max(np.abs(right), initial=0)), 1e-30)
    off = np.abs(found - right)
    if found.size == 0 or bool((off <= tolerance * scale).all()):
        return
    worst = np.unravel_index(int(np.argmax(np.where(np.isfinite(off), off, np.inf))), off.shape)
    index = f"[{', '.join(str(int(i)) for i in worst)}]" if worst else ""
    count = int((~(off <= tolerance * scale)).sum())
    share = f" ({count} of {off.size} elements differ)" if off.size > 1 else ""
    finding = f"{what}{index} is {found[worst]:.8g}: expected {right[worst]:.8g}{share}"
    raise work.wrong(finding, _likely(found, right, causes or {}, tolerance), where)


def _likely(found: np.ndarray, right: np.ndarray, causes: Mapping[str, Any], tolerance: float) -> str:
    """Returns the phrase of the first known mistake that gives what was found, or what the numbers alone tell."""
    finite = np.isfinite(found)
    for phrase, value in causes.items() if finite.any() else ():
        other = as_array(value)
        if other.shape == found.shape and np.allclose(found, other, rtol=100 * tolerance, atol=1e-12, equal_nan=True):
            return phrase
    if not finite.all():
        return "a division by zero, a logarithm of zero, or an exponential that overflows"
    if np.allclose(found, -right, rtol=1e-6, atol=0):
        return "the sign is wrong"
    scale = np.abs(right).max(initial=0)
    if right.dtype == np.float64 and tolerance < 1e-7 and np.allclose(found, right, rtol=0, atol=1e-5 * scale):
        return "almost right: a constant of too few digits, a small number added where none belongs, or float32 within"
    at = np.abs(right) > 1e-6 * scale
    ratios = found[at] / right[at]
    if ratios.size == 0 or not np.allclose(ratios, ratios.flat[0], rtol=1e-6) or abs(ratios.flat[0]) < 1e-12:
        return ""
    factor = float(ratios.flat[0])
    if ratios.size == 1 and not _whole(factor, 1e-8):  # one number has a factor in any case
        return ""
    return f"a factor of {named_factor(factor)}"


def _whole(x: float, near: float) -> int:
    """Returns the whole number above 1 that x or 1/x is, but for its sign, to within a relative `near`; 0 if there is none."""
    x = max(abs(x), 1 / abs(x))
    n = round(x) if x < 1e4 else 0
    return n if n > 1 and abs(x - n) <= near * n else 0


def named_factor(factor: float, arrays: Mapping[str, Any] | None = None) -> str:
    """Returns a factor, and what it may be: a whole number, a root, and a length of one of the arrays, by their names."""
    shown = f"{factor:.6g}"
    root = 0 if _whole(factor, 1e-5) else _whole(factor * factor, 1e-5)
    n = root or _whole(factor, 1e-5)
    text = f"√{n}" if root else str(n)
    text = ("-" if factor < 0 else "") + (f"1/{text}" if abs(factor) < 1 else text)
    lengths = {
        size: f"axis {axis} of {name}" for name, x in reversed(list((arrays or {}).items())) for axis, size in enumerate(np.shape(x))
    }
    if n in lengths:
        return f"{shown}: {text}, where {n} is the length of {lengths[n]}: is a scale missing, or there twice?"
    return f"{shown}, {text}" if n and n < 100 and text != shown else shown


def _of_shape(found: np.ndarray, right: np.ndarray) -> str:
    """Returns why an array may have another shape."""
    if found.ndim > 1 and found.shape == right.shape[::-1]:
        return "transposed"
    if found.ndim == right.ndim and all(m in (n, 1) for n, m in zip(found.shape, right.shape, strict=True)):
        many = [axis for axis, (n, m) in enumerate(zip(found.shape, right.shape, strict=True)) if n != m]
        return f"there is no sum over axis {', '.join(map(str, many))}, which must have length 1 afterwards"
    if found.size == right.size:
        return "the same number of elements: an axis of length 1 too many or too few, or another order of the axes (keepdims?)"
    return ""


def described(names: Sequence[str], args: Sequence[Any], settings: Mapping[str, Any]) -> str:
    """Returns a call as a message shows it: its arguments by name, with their shapes, or their numbers if these are few and whole."""

    def said(x: Any) -> str:
        if not isinstance(x, np.ndarray):
            return repr(x)
        return str(x.astype(int).tolist()) if x.size <= 6 and (x == np.round(x)).all() else str(x.shape)

    shown = [f"{name} {said(x)}" for name, x in zip(names, args, strict=False)]
    return ", ".join([*shown, *(f"{name}={value!r}" for name, value in settings.items() if name != "key")])
