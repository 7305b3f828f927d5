"""Hypotheses about places: the gradient is right at some elements and wrong at others, and a sign, a threshold or an end tells which."""

import math
from collections.abc import Iterator

import numpy as np

from tinylm.verify.diagnosis.evidence import Evidence

_SAME = 1e-6  # of the largest gradient: elements that count as right
_CHANCE = 50  # as many sets of this size there must be, so that one is not told apart by accident
_ENDS = 8  # the same for one end of an axis


def region(e: Evidence) -> str | None:
    """Wrong only where the argument's own values are negative, positive, near 0 or beyond a threshold."""
    wrong, x = wrong_elements(e), e.point.ravel()
    if not elementwise(e) or not wrong.any() or wrong.all() or math.comb(wrong.size, int(wrong.sum())) < _CHANCE:
        return None
    name, how = e.problem.names[e.k], _relation(e, wrong)
    for where in (f"{name} is negative", f"{name} is positive"):
        if np.array_equal(wrong, x < 0 if where.endswith("negative") else x > 0):
            return f"wrong only where {where}{how}"
    size = np.abs(x)
    for text, values, branch in (
        (f"|{name}|", size, "another branch, such as a series near 0"),
        (name, x, "another branch"),
    ):
        inside, outside = values[wrong], values[~wrong]
        if inside.max() < outside.min():
            return f"wrong only where {text} ≤ {inside.max():.3g}, right from {outside.min():.3g} on{how}: {branch}"
        if inside.min() > outside.max():
            return f"wrong only where {text} ≥ {inside.min():.3g}, right up to {outside.max():.3g}{how}: another branch"
    return None


def ends(e: Evidence) -> str | None:
    """Wrong only at the first or last place of an axis of the argument, or in what comes from there in an output."""
    if elementwise(e):
        return None  # neighbours do not matter
    wrong = wrong_elements(e).reshape(e.point.shape)
    for axis, which in _ends(wrong):
        return f"wrong only at the {which} element of axis {axis} of {e.problem.names[e.k]}{_relation(e, wrong.ravel())}: {_WINDOW}"
    if e.taped is None or len(e.problem.shapes) != 1:
        return None
    off = np.abs(e.taped - e.measured).max(1) > _SAME * max(np.abs(e.measured).max(), np.abs(e.taped).max())
    for axis, which in _ends(off.reshape(e.problem.shapes[0])):
        return f"wrong only in what comes from the {which} element of axis {axis} of output 0{_relation(e, off, rows=True)}: {_WINDOW}"
    return None


_WINDOW = "as at a boundary, of padding or of a window that is shifted or cut off"


def _ends(wrong: np.ndarray) -> Iterator[tuple[int, str]]:
    """Yields the axes, of at least three places, at one end of which all wrong places are, and all of that end is wrong."""
    if not wrong.any() or math.comb(wrong.size, int(wrong.sum())) < _ENDS:
        return
    for axis, n in enumerate(wrong.shape):
        at = np.flatnonzero(wrong.any(axis=tuple(a for a in range(wrong.ndim) if a != axis)))
        for i, which in ((0, "first"), (n - 1, "last")):
            if n > 2 and at.tolist() == [i] and np.take(wrong, i, axis).all():
                yield axis, which


def wrong_elements(e: Evidence) -> np.ndarray:
    """Returns which elements of the argument have a wrong gradient, as a vector."""
    off, size = (np.abs(g).reshape(len(g), -1).max(0) for g in (e.wrong - e.right, e.right))
    return off > _SAME * max(size.max(), off.max())


def elementwise(e: Evidence) -> bool:
    """True if, rightly and by the tape, each element's gradient is the incoming one of its own place times a number."""
    if e.problem.shapes != [e.point.shape]:
        return False
    c = e.cotangents.reshape(e.right.shape)
    numbers = [(g / c, np.abs(g).max()) for g in (e.right, e.wrong)]
    return all(np.abs((n[1:] - n[0]) * c[1:]).max() <= _SAME * top for n, top in numbers)


def _relation(e: Evidence, places: np.ndarray, *, rows: bool = False) -> str:
    """Returns what the wrong gradient is in these places, if that is simple: zero, or the right one times a number."""
    if rows:
        w, j = (np.zeros(0) if g is None else g[places] for g in (e.taped, e.measured))
    else:
        w, j = (g.reshape(len(g), -1)[:, places] for g in (e.wrong, e.right))
    if not np.abs(w).max() > _SAME * np.abs(j).max():
        return ", where it is zero"
    if not np.abs(j).max() > _SAME * np.abs(w).max():
        return ", where it should be zero"
    s = float(np.vdot(j, w) / np.vdot(j, j))
    if np.linalg.norm(w - s * j) <= _SAME * np.linalg.norm(w):
        return ", where the sign is wrong" if abs(s + 1) < _SAME else f", where it has a factor of {s:.6g}"
    c = e.cotangents if e.problem.shapes == [e.point.shape] and not rows else None
    if c is not None:  # element by element: an amount for each unit of the incoming gradient
        off, c = w - j, c[:, places]
        s = float(np.vdot(c, off) / np.vdot(c, c))
        if np.linalg.norm(off - s * c) <= _SAME * np.linalg.norm(off):
            return f", where {abs(s):.6g} times the incoming gradient is {'missing' if s < 0 else 'too much'}"
    return ""
