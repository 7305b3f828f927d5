"""The rows of a report on a comparison: one per argument, with its verdict, and remarks on what could not be compared."""

from collections.abc import Callable

import numpy as np

from tinylm.verify.columns import TINIEST, Block, Comparison
from tinylm.verify.determinism import repetitions, single_within, trespasses
from tinylm.verify.diagnosis.causes import likely_cause
from tinylm.verify.diagnosis.evidence import gathered
from tinylm.verify.diagnosis.observations import observed
from tinylm.verify.gradient_rounding import spare_rounding
from tinylm.verify.kinks import kinks_of
from tinylm.verify.other_points import beside
from tinylm.verify.reports import Report, Row, relative_error
from tinylm.verify.verdicts import OK, TOO_SMALL, UNDECIDED, WRONG

_SHOWN = 4  # elements, in a remark
_SINGLE = 1e-8  # an agreement no better than this, where differences are better, may come from single precision
_KINK = "the point looks non-differentiable there"
_ROUNDED = "rounding of the function's own values hides the derivative there"
_UNDERFLOW = "the function's changes there underflow, to less than 2e-308"


def rows_of(comparison: Comparison, thorough: bool, gradcheck: Callable[..., Report]) -> tuple[list[Row], list[str]]:
    """Returns one row per argument and one for whatever does not repeat; and the remarks."""
    problem = comparison.problem
    c = comparison.rng.standard_normal(comparison.y.size) * comparison.finite
    unstable = repetitions(problem, c)
    noisy = any(not row.error <= comparison.tolerance for row in unstable)
    if not noisy:  # else noise would look like kinks
        _measure(comparison, thorough)
    verdicts = comparison.verdicts()
    rows = [_row(comparison, k, verdict, noisy, gradcheck) for k, verdict in enumerate(verdicts)]
    remarks = [] if noisy else [remark for k, verdict in enumerate(verdicts) for remark in _remarks(comparison, k, verdict)]
    if comparison.finite.size and not comparison.finite.all():
        remarks.append(f"{int((~comparison.finite).sum())} of {comparison.finite.size} output elements are not finite, and left out")
    further = trespasses(problem, c) if not comparison.single else []
    if not (unstable or further or remarks or any(row.verdict(comparison.tolerance) != "ok" for row in rows)):
        further = beside(problem, float(np.max(comparison.largest, initial=0)), comparison.tolerance)
    return [*rows, *unstable, *further], remarks


def _measure(comparison: Comparison, thorough: bool) -> None:
    """Measures what the first step leaves open. Kinks are marked; random directions are drawn again without them."""
    problem = comparison.problem
    for k in range(len(problem.xs)):
        comparison.refine(k)
        if comparison.full:
            if thorough:
                comparison.look_at_kinks(k, kinks_of(problem, k, comparison.rng))
        elif (thorough or (comparison.verdicts()[k] >= UNDECIDED).any()) and (kinks := kinks_of(problem, k, comparison.rng)):
            comparison.leave_out(k, kinks)
            comparison.refine(k)
        spare_rounding(comparison, k)


def left_out(comparison: Comparison, k: int) -> list[int]:
    """Returns the elements of argument k (flat positions) of which something could not be compared."""
    found = set(comparison.left_out.get(k, []))
    open_columns = (comparison.verdicts()[k] == UNDECIDED).any(axis=0)
    for j in np.flatnonzero(open_columns).tolist():
        found.update(comparison.blocks[k].members[j].tolist())
    return sorted(found)


def _compared(comparison: Comparison, k: int, verdict: np.ndarray) -> int:
    """Returns how many elements of argument k could be compared: in at least half of what is not zero in their column."""
    block = comparison.blocks[k]
    decided = ((verdict != UNDECIDED) & ((block.taped != 0) | (block.measured != 0))).sum(axis=0)
    lost = (verdict == UNDECIDED).sum(axis=0) > decided
    elements = set(comparison.left_out.get(k, []))
    for j in np.flatnonzero(lost).tolist():
        elements.update(block.members[j].tolist())
    return comparison.problem.xs[k].size - len(elements)


def _row(comparison: Comparison, k: int, verdict: np.ndarray, noisy: bool, gradcheck: Callable[..., Report]) -> Row:
    problem, block = comparison.problem, comparison.blocks[k]
    name, size = problem.names[k], problem.xs[k].size
    with np.errstate(all="ignore"):
        a, b = block.taped / block.units, block.measured / block.units
        off = np.abs(a - b)
        if not noisy and not block.agrees.all():
            spared = np.where(block.agrees | (verdict == WRONG), 0, block.doubt + comparison.floors()[k]) / block.units
            off = np.fmax(off - spared, 0)
        off[~np.isfinite(a) & (verdict == WRONG)] = np.nan
        kept = verdict != UNDECIDED if not noisy else np.ones(a.shape, bool)
        joint = _norm([x.measured / x.units for x in comparison.blocks])
        error = _relative(off[kept], b[kept], joint)
        wrong = (verdict == WRONG) if not noisy else off > 0
        if wrong.any() and error <= comparison.tolerance and not noisy:
            error = float(np.max((np.abs(a - b) / np.fmax(np.abs(b), 1e-300))[wrong]))
    decided = "wrong" if not error <= comparison.tolerance and (noisy or comparison.single or wrong.any()) else "ok"
    if decided == "wrong":
        detail = _worst(comparison, k, a, b, np.where(wrong if wrong.any() else kept, np.abs(a - b), -1))
        if noisy:
            return Row(name, error, detail, "not repeatable, see below", decided=decided)
        with np.errstate(all="ignore"):
            jacobian = None
            if comparison.full:
                jacobian = np.zeros((comparison.y.size, size))
                jacobian[comparison.outputs] = np.where(verdict == UNDECIDED, 0, b)
            evidence = gathered(problem, comparison.y, k, left_out(comparison, k), comparison.rng, gradcheck, jacobian)
            cause = "" if evidence is None else likely_cause(evidence)
            seen = "" if evidence is None or cause else observed(evidence)
            return Row(name, error, detail, cause, decided=decided, observed=seen)
    compared = _compared(comparison, k, verdict)
    if not noisy and size and (2 * compared < size or 2 * comparison.finite.sum() < comparison.finite.size):
        hidden = _UNDERFLOW if _underflows(block)[verdict == UNDECIDED].any() else _ROUNDED
        why = _KINK if block.kinked.any() or comparison.left_out.get(k) else hidden
        if 2 * comparison.finite.sum() < comparison.finite.size:
            why, compared = "the function's values are not finite", 0
        detail = f"only {compared} of {size} elements could be compared: {why}"
        return Row(name, error if compared else float("nan"), detail, decided="undecided")
    if _SINGLE < error <= comparison.tolerance <= 1e-6 and not (noisy or comparison.single):
        reached, doubt = comparison.agreement(k)
        if max(_SINGLE, 100 * doubt) < reached <= comparison.tolerance and (op := single_within(problem)):
            detail = f"agrees to {reached:.0e} only, where differences are exact to {doubt:.0e}"
            return Row(name, error, detail, f"a part of the vjp of {op} computes in float32", decided="wrong")
    return Row(name, error, decided=decided)


def _underflows(block: Block) -> np.ndarray:
    """Returns which elements are too small for all their digits, by the tape and by differences."""
    return np.fmax(np.abs(block.taped), np.abs(block.measured)) < TINIEST


def _relative(off: np.ndarray, b: np.ndarray, joint: float) -> float:
    """Returns the relative error of differences from b, whose squares may overflow or vanish."""
    top = float(np.max(np.abs(b[np.isfinite(b)]), initial=0)) or 1.0
    return relative_error(b / top + off / top, b / top, joint / top)


def _norm(arrays: list[np.ndarray]) -> float:
    values = np.concatenate([x[np.isfinite(x)] for x in arrays]) if arrays else np.zeros(0)
    top = float(np.max(np.abs(values), initial=0)) or 1.0
    return top * float(np.linalg.norm(values / top))


def _worst(comparison: Comparison, k: int, a: np.ndarray, b: np.ndarray, off: np.ndarray) -> str:
    """Returns where an argument differs most, and both values."""
    i, j = (int(n) for n in np.unravel_index(np.argmax(off), off.shape))
    where = f"along random direction {j}"
    if comparison.full:
        index = [int(n) for n in np.unravel_index(j, comparison.problem.xs[k].shape)]
        where = f"at {index}, output element {comparison.outputs[i]}"
    return f"worst {where}: {a[i, j]:.10g} by the tape, {b[i, j]:.10g} by differences"


def _remarks(comparison: Comparison, k: int, verdict: np.ndarray) -> list[str]:
    """Returns which elements of argument k could not be compared, or are too small beside the others for it."""
    block, size = comparison.blocks[k], comparison.problem.xs[k].size
    open_entries = verdict == UNDECIDED
    kinks, hidden, tiny = set(comparison.left_out.get(k, [])), set[int](), set[int]()
    for j in np.flatnonzero(open_entries.any(axis=0)).tolist():
        at_kink = (block.kinked[:, j] & open_entries[:, j]).any()
        underflows = _underflows(block)[open_entries[:, j], j].any()
        (kinks if at_kink else tiny if underflows else hidden).update(block.members[j].tolist())
    small = ((verdict == TOO_SMALL) & (block.taped != 0)).sum(axis=0)
    columns = [] if comparison.single else np.flatnonzero(small > ((verdict == OK) & (block.taped != 0)).sum(axis=0)).tolist()
    drowned = {n for j in columns for n in block.members[j].tolist()}
    found = [
        f"{comparison.problem.names[k]}: {len(elements)} of {size} elements {why}: {_points(comparison, k, elements)}"
        for elements, why in (
            (kinks, f"left out, since {_KINK}"),
            (hidden - kinks, f"left out, since {_ROUNDED}"),
            (tiny - kinks - hidden, f"left out, since {_UNDERFLOW}"),
            (drowned - kinks - hidden - tiny, "too small beside the largest to be told from zero, their signs unchecked"),
        )
        if elements
    ]
    return found


def _points(comparison: Comparison, k: int, elements: set[int]) -> str:
    shape = comparison.problem.xs[k].shape
    points = [[int(n) for n in np.unravel_index(j, shape)] for j in sorted(elements)[:_SHOWN]]
    return ", ".join(map(str, points)) + (", ..." if len(elements) > _SHOWN else "")
