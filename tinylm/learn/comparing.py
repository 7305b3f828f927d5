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
    if not np.isfinite(found).all():
        return "a division by zero, a logarithm of zero, or an exponential that overflows"
    for phrase, value in causes.items():
        other = as_array(value)
        if other.shape == found.shape and np.allclose(found, other, rtol=100 * tolerance, atol=1e-12):
            return phrase
    if np.allclose(found, -right, rtol=1e-6, atol=0):
        return "the sign is wrong"
    at = np.abs(right) > 1e-6 * np.abs(right).max(initial=0)
    ratios = found[at] / right[at]
    if ratios.size and np.allclose(ratios, ratios.flat[0], rtol=1e-6) and abs(ratios.flat[0]) > 1e-12:
        if abs(ratios.flat[0] - 1) < 1e-5:
            return "almost right: a constant of too few digits, a small number added where none belongs, or float32 within"
        return f"a factor of {float(ratios.flat[0]):.6g}"
    return ""


def _of_shape(found: np.ndarray, right: np.ndarray) -> str:
    """Returns why an array may have another shape."""
    if found.ndim > 1 and found.shape == right.shape[::-1]:
        return "transposed"
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
