"""Anomaly detection: which op first produced a NaN or an infinity."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tinylm.backend import array_module
from tinylm.errors import AnomalyError


class _Anomaly:
    detect = False


anomaly = _Anomaly()  # for all threads: a plain attribute, since every op reads it


@contextlib.contextmanager
def detect_anomaly() -> Iterator[None]:
    """Within it, forward and backward stop with AnomalyError at the first op whose value or
    gradient is NaN or infinite although its inputs are finite, naming the op, the line that
    called it and its inputs' statistics. Every value is inspected: slow, for debugging."""
    before, anomaly.detect = anomaly.detect, True
    try:
        yield
    finally:
        anomaly.detect = before


def _raw(x: Any) -> Any:
    return x.data if hasattr(x, "requires_grad") else x


def _not_finite(x: Any) -> str | None:
    x = np.asarray(x) if isinstance(x, float) else _raw(x)  # -inf is often a number: where(mask, scores, -inf)
    if getattr(x, "dtype", None) is None or x.dtype.kind != "f":
        return None
    xp = array_module(x)
    if bool(xp.isnan(x).any()):
        return "NaN"
    return "an infinity" if bool(xp.isinf(x).any()) else None


def _statistics(inputs: Sequence[Any]) -> str:
    lines = []
    for i, x in enumerate(inputs):
        x = _raw(x)
        if getattr(x, "dtype", None) is None or x.size == 0:
            lines.append(f"argument {i}: {x!r}")
        else:
            lines.append(f"argument {i}: {x.dtype}{x.shape} min {float(x.min()):.6g} max {float(x.max()):.6g} mean {float(x.mean()):.6g}")
    return "; ".join(lines)


def check_value(name: str, where: str, value: Any, inputs: Sequence[Any], what: str) -> None:
    """In anomaly mode: AnomalyError when `value` is the first not to be finite."""
    bad = _not_finite(value)
    if bad and not any(_not_finite(x) for x in inputs):
        raise AnomalyError(f"{name} ({where}) produced {bad} in its {what}; {_statistics(inputs)}")
