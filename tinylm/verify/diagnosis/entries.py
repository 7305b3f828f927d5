"""Hypotheses about single entries of the Jacobian, ∂(output)/∂(element): which of them the tape has, and which it lacks or invents."""

from dataclasses import dataclass

import numpy as np

from tinylm.verify.diagnosis.evidence import Evidence

_SAME = 1e-6  # of the largest entry: entries that are equal, or zero


@dataclass(frozen=True)
class Entries:
    """Which entries (outputs, elements) are zero by the tape alone, by differences alone, or differ otherwise."""

    lost: np.ndarray
    invented: np.ndarray
    other: np.ndarray
    held: np.ndarray  # not zero by differences

    @staticmethod
    def of(e: Evidence) -> "Entries | None":
        """Returns the entries of an argument; None if there are too many outputs."""
        w, j = e.taped, e.measured
        if w is None or not w.size:
            return None
        same = _SAME * max(np.abs(w).max(), np.abs(j).max())
        zero_w, zero_j, equal = np.abs(w) <= same, np.abs(j) <= same, np.abs(w - j) <= same
        return Entries(zero_w & ~zero_j, zero_j & ~zero_w, ~equal & ~zero_w & ~zero_j, ~zero_j)


def diagonal_only(e: Evidence) -> str | None:
    """Output i's gradient reaches element i alone, and rightly; the other entries are missing."""
    found = Entries.of(e)
    if found is None or found.other.any() or found.invented.any() or not found.lost.any() or not _square(e):
        return None
    diagonal = np.eye(len(found.held), dtype=bool)
    if (found.held & diagonal).sum() < 2 or (found.held & ~found.lost & ~diagonal).any() or (found.lost & diagonal).any():
        return None
    i, j = np.argwhere(found.lost)[0]
    more = f"the output at {_index(e.problem.shapes[0], i)} depends on the element at {_index(e.point.shape, j)} as well"
    return f"only the diagonal of the Jacobian: each element gets the gradient through the output in its own place; {more}"


def overwritten(e: Evidence) -> str | None:
    """Of several outputs that an element has reached, only the last (or first) arrives: written, and not added."""
    found = Entries.of(e)
    if found is None or found.other.any() or found.invented.any() or len(e.problem.shapes) > 1:
        return None
    several = found.held.sum(0) > 1
    for which, first in (("last", len(found.held) - 1 - found.held[::-1].argmax(0)), ("first", found.held.argmax(0))):
        only = np.zeros_like(found.held)
        only[first, np.arange(found.held.shape[1])] = True
        if several.any() and np.array_equal(found.held & ~found.lost, found.held & only):
            j = int(np.flatnonzero(several)[0])
            rest = f"of the {int(found.held[:, j].sum())} outputs that the element at {_index(e.point.shape, j)} goes into"
            why = ": written one over the other instead of added" if which == "last" else ", and the others are not added"
            return f"overwritten: only the {which} {rest} arrives{why}"
    return None


def other_mask(e: Evidence) -> str | None:
    """Element by element: zero where the right gradient is not, and the reverse, and equal up to a factor elsewhere."""
    found = Entries.of(e)
    if found is None or e.taped is None or not _square(e):
        return None
    diagonal = np.eye(len(found.held), dtype=bool)
    if ((found.held | found.invented) & ~diagonal).any() or not found.lost.any() or not found.invented.any():
        return None
    w, j = np.diag(e.taped), np.diag(e.measured)
    both = (w != 0) & np.diag(found.held & ~found.lost)
    lost, invented = int(found.lost.sum()), int(found.invented.sum())
    if not both.any():
        return f"the opposite mask: zero at the {lost} elements where the right gradient is not, and not zero at the other {invented}"
    if both.sum() > 2 and np.ptp(w[both] / j[both]) > _SAME * np.abs(w[both] / j[both]).max():
        return None
    counted = f"zero at {lost} elements where the right gradient is not, not zero at {invented} where it is"
    return f"another mask in the backward pass than in the forward pass, such as one that is drawn again: {counted}"


def misplaced(e: Evidence) -> str | None:
    """The numbers of each output are right and go to the wrong elements."""
    found = Entries.of(e)
    if found is None or e.taped is None or found.other.any() or not found.lost.any():
        return None
    same = _SAME * np.abs(e.measured).max()
    if np.abs(np.sort(np.abs(e.taped), 1) - np.sort(np.abs(e.measured), 1)).max() > same:
        return None
    rows = np.flatnonzero(found.lost.any(1))
    i, where = int(rows[0]), found.held[rows[0]] & ~found.lost[rows[0]]
    shape = e.point.shape
    got, wanted = (_index(shape, np.flatnonzero(places[i])[0]) for places in (found.invented, found.lost))
    output = next(o for o, (part, _) in enumerate(e.output_parts()) if part.start <= i < part.stop)
    part, out = e.output_parts()[output]
    also = ", among others" if where.any() or found.lost[i].sum() > 1 else ""
    return (
        f"misplaced: the gradient through {len(rows)} outputs has the right numbers and goes to the wrong elements: that of output "
        f"{output} at {_index(out, i - part.start)} to {got} instead of {wanted}{also}"
    )


def forwards_again(e: Evidence) -> str | None:
    """The vjp multiplies by the Jacobian and not by its transpose."""
    w = e.taped
    if w is None or w.shape[0] != w.shape[1] or len(w) < 3 or len(e.problem.shapes) > 1:
        return None
    if not np.linalg.norm(w - e.measured.T) <= 1e-4 * np.linalg.norm(w - e.measured) < np.inf:
        return None
    return (
        "forwards again: the vjp multiplies the incoming gradient by the Jacobian and not by its transpose, "
        "as when an order, rotation or running sum is applied once more instead of undone"
    )


def _square(e: Evidence) -> bool:
    """True for one output of the argument's shape."""
    return e.problem.shapes == [e.point.shape]


def _index(shape: tuple[int, ...], flat: int) -> list[int]:
    return [int(n) for n in np.unravel_index(int(flat), shape)]
