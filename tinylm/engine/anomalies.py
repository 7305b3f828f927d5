"""Anomaly detection: which op first produced a NaN or an infinity, and which line of the user's code led there."""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any, NoReturn

import numpy as np

from tinylm.engine.arrays import array_module, constant
from tinylm.errors import AnomalyError

_LARGE = 1e6  # the values of a model that learns stay far below

Given = dict[str, Any]  # what an op was given, by the name used in messages


class _Anomaly(threading.local):
    detect = False


anomaly = _Anomaly()


@contextlib.contextmanager
def detect_anomaly() -> Iterator[None]:
    """Within it, the forward and the backward pass stop with AnomalyError at the first op whose value or gradient
    is NaN or infinite, in this thread. The error names the op, the user's line that led to its call and its inputs' statistics.

    An op that was given a NaN is not to blame, and the message says so: data, weights or something computed
    outside of the block was not finite already. Infinite inputs are allowed, since masks are made of -inf,
    until they produce a NaN; infinite parameters are not. Every value is inspected: slow, for debugging.
    """
    before, anomaly.detect = anomaly.detect, True
    try:
        yield
    finally:
        anomaly.detect = before


def place(frame: FrameType) -> str:
    """Returns 'file:line' of the frame that called an op. If that is tinylm's own code, the line of the user's code
    that led there comes first: 'file:line, which led to file:line'."""
    own, user = _line(frame), frame
    while user.f_back is not None and _within(user):
        user = user.f_back
    return own if user is frame or _within(user) else f"{_line(user)}, which led to {own}"


def _line(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _within(frame: FrameType) -> bool:
    """Returns True for tinylm's own code, and for the context managers and decorators that call it."""
    return str(frame.f_globals.get("__name__")).partition(".")[0] in ("tinylm", "contextlib")


def _bad(x: Any) -> dict[str, Any]:
    """Returns the elements that are not finite: one mask per kind that occurs."""
    x = np.asarray(x) if isinstance(x, float) else constant(x)  # -inf is often a Python number: where(mask, scores, -inf)
    if getattr(x, "dtype", None) is None or x.dtype.kind != "f":
        return {}
    xp = array_module(x)
    masks = {"NaN": xp.isnan(x), "an infinity": xp.isinf(x)}
    return {kind: mask for kind, mask in masks.items() if bool(mask.any())}


def _extent(mask: Any) -> str:
    """Returns how many elements the mask has, and which is the first."""
    if mask.ndim == 0:
        return ""
    first = ", ".join(str(int(i)) for i in np.unravel_index(int(mask.argmax()), mask.shape))
    return f" ({int(mask.sum())} of {mask.size} elements, the first at [{first}])"


def _is_parameter(x: Any) -> bool:
    return getattr(x, "requires_grad", False) and x.node is None


def _statistics(given: Given) -> str:
    """Describes each array in a few words; min, max and mean are those of its finite elements."""
    lines = []
    for label, x in given.items():
        x = constant(x)
        if getattr(x, "dtype", None) is None or x.size == 0:
            lines.append(f"{label}: {x!r}")
            continue
        bad = _bad(x)
        finite = x[array_module(x).isfinite(x)] if bad else x
        words = [
            f"{label}: {x.dtype}{x.shape}",
            *(f"{int(mask.sum())} x {'NaN' if kind == 'NaN' else 'inf'}" for kind, mask in bad.items()),
        ]
        if finite.size:
            words.append(f"min {float(finite.min()):.6g} max {float(finite.max()):.6g} mean {float(finite.mean(dtype='float64')):.6g}")
        lines.append(" ".join(words))
    return "; ".join(lines)


def _hint(given: Given) -> str:
    """Returns a hint if an argument is very large, a parameter before others; '' if none is."""
    for label, x in sorted(given.items(), key=lambda item: not _is_parameter(item[1])):
        a = constant(x)
        if getattr(a, "dtype", None) is not None and a.dtype.kind == "f" and a.size:
            largest = float(array_module(a).abs(a).max())
            if _LARGE <= largest < np.inf:
                what = f"{label}, a parameter," if _is_parameter(x) else label
                remedy = "if the weights grow from step to step, try a lower learning rate or clip the gradients"
                return f"; {what} reaches {largest:.3g}: {remedy}"
    return ""


def _fail(op: str, verb: str, what: str, bad: dict[str, Any], why: str, given: Given) -> NoReturn:
    kind, mask = next(iter(bad.items()))
    raise AnomalyError(f"{op} {verb} {kind} in {what}{_extent(mask)}{why}; {_statistics(given)}{_hint(given)}")


def _clear(op: str, arguments: Given, given: Given) -> list[str]:
    """Raises AnomalyError if the op is not to blame, since an argument is NaN or a parameter infinite. Returns the
    arguments with infinities."""
    infinite = []
    for label, x in arguments.items():
        bad = _bad(x)
        if "NaN" in bad or (bad and _is_parameter(x)):
            why = "a parameter: its value at the start or its last update made it so" if _is_parameter(x) else "data, or computed before"
            _fail(op, "was given", label, bad, f", and is not to blame: it was not finite already ({why})", given)
        if bad:
            infinite.append(label)
    return infinite


def _arguments(inputs: Sequence[Any]) -> Given:
    return {f"argument {i}": x for i, x in enumerate(inputs)}


def check_value(op: str, value: Any, inputs: Sequence[Any]) -> None:
    """In anomaly mode: raises AnomalyError if a value of the op (its name and place) is not finite."""
    bad = _bad(value)
    if bad:
        given = _arguments(inputs)
        infinite = _clear(op, given, given)
        if "NaN" in bad or not infinite:
            _fail(op, "produced", "its value", bad, f" from the infinity in {infinite[0]}" if infinite else "", given)


def check_gradients(op: str, grads: Sequence[Any], dys: Sequence[Any], inputs: Sequence[Any]) -> None:
    """In anomaly mode: raises AnomalyError if a gradient that the op's vjp made from `dys`, those of its outputs, is not finite."""
    for bad in filter(None, map(_bad, grads)):
        label = "the gradient of its value" if len(dys) == 1 else "the gradient of its output {}"
        incoming = {label.format(i): dy for i, dy in enumerate(dys)}
        arguments = _arguments(inputs)
        given = incoming | arguments
        for what, dy in incoming.items():
            if found := _bad(dy):
                why = ", and is not to blame: backward was started with it, or finite gradients overflowed when they were added"
                _fail(op, "was given", what, found, why, given)
        infinite = _clear(op, arguments, given)
        _fail(op, "produced", "its gradient", bad, f" from the infinity in {infinite[0]}" if infinite else "", given)
