"""Hypotheses about the incoming gradient, and about a factor that is an array: another variable than the right one was multiplied by."""

import numpy as np

from tinylm.verify.diagnosis.evidence import Evidence

_SAME = 1e-6
_POWERS = {1.0: "{}", -1.0: "1 / {}", 2.0: "{}²", -2.0: "1 / {}²", 0.5: "√{}", -0.5: "1 / √{}"}


def not_linear(e: Evidence) -> str | None:
    """A vjp is linear in the incoming gradient: twice of it gives twice the result, and none of it nothing."""
    c, first = e.cotangents[0], e.wrong[0]
    twice, none = (_without(e, e.problem.vjp(e.y, n * c)[e.k]) for n in (2, 0))
    top = np.abs(first).max()
    if np.abs(twice - 2 * first).max() <= _SAME * top:
        return None
    if np.abs(twice - first).max() <= _SAME * top:
        return "the incoming gradient is not used: with twice of it, the gradient is the same"
    if np.abs(none).max() > _SAME * top:
        return "a term without the incoming gradient: the gradient is not zero where all of the incoming gradient is zero"
    return "not linear in the incoming gradient: with twice of it, the gradient is not twice as large"


def _without(e: Evidence, g: np.ndarray) -> np.ndarray:
    g = g.copy()
    g.reshape(-1)[e.without] = 0
    return g


def array_factor(e: Evidence) -> str | None:
    """Each element, or what comes from each output, is right up to a power of an argument's or the output's value."""
    right, wrong = e.right, e.wrong
    known = [*zip(e.problem.names, e.problem.start, strict=True)]
    values = e.problem.value().numpy()
    if len(e.problem.shapes) == 1:
        known.append(("the output", values.reshape(e.problem.shapes[0])))
    top = np.abs(right).max()
    if (np.abs(right).max(0) > _SAME * top).all():  # one factor per element, whatever the cotangent
        factors = (right * wrong).sum(0) / (right * right).sum(0)
        if np.abs(factors * right - wrong).max() <= _SAME * np.abs(wrong).max() and (found := _named(factors, known)):
            return f"each element has an extra factor, {found}"
    if e.taped is None or len(e.problem.shapes) != 1:
        return None
    squares = (e.measured**2).sum(1)
    if not (squares > 0).all():
        return None
    factors = (e.taped * e.measured).sum(1) / squares
    if np.abs(factors[:, None] * e.measured - e.taped).max() <= _SAME * np.abs(e.taped).max():
        found = _named(factors.reshape(e.problem.shapes[0]), known)
        return f"what comes from each output has an extra factor, {found}" if found else None
    return None


def _named(factors: np.ndarray, known: list[tuple[str, np.ndarray]]) -> str:
    """Returns the array, or its power, that the factors are a multiple of; "" if there is none."""
    for power, text in _POWERS.items():
        for name, array in known:
            try:
                values = np.broadcast_to(array, factors.shape)
            except ValueError:
                continue
            if factors.size < 3 or np.ptp(np.abs(values)) <= 1e-3 * np.abs(values).max() or not values.all():
                continue
            if power % 1 and (values < 0).any():
                continue
            ratio = factors / values**power
            if np.ptp(ratio) <= _SAME * np.abs(ratio).max():
                s = float(np.median(ratio))
                shown = text.format(name)
                return shown if abs(s - 1) < _SAME else f"{s:.6g} times {shown}"
    return ""
