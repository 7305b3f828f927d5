"""Finds the likely cause of a wrong gradient: each hypothesis predicts it from the right one, and the first that fits is named.

A hypothesis takes the evidence and returns a phrase, or None if it does not fit. The most common
mistakes come first, and of two that fit, the simpler one.
"""

import itertools
from collections.abc import Callable, Iterator

import numpy as np

from tinylm.errors import GradientShapeError
from tinylm.verify.diagnosis.array_factors import array_factor, not_linear
from tinylm.verify.diagnosis.entries import diagonal_only, forwards_again, misplaced, other_mask, overwritten
from tinylm.verify.diagnosis.evidence import Evidence
from tinylm.verify.diagnosis.paths import detached
from tinylm.verify.diagnosis.places import ends, region
from tinylm.verify.diagnosis.repairs import repaired
from tinylm.verify.diagnosis.wrong_ops import wrong_op
from tinylm.verify.jacobians import SecondOrder

Hypothesis = Callable[[Evidence], str | None]
_OR_TWO = ", or a 2 of the formula is {}"
_PERHAPS = ", which may come from {}"  # where several numbers are equal, none is named as the cause


def likely_cause(evidence: Evidence) -> str:
    """Returns the phrase of the first hypothesis that fits; "" if none does, or if most elements of the argument were left out."""
    if 2 * len(evidence.without) > evidence.point.size:
        return ""
    for hypothesis in HYPOTHESES:
        phrase = hypothesis(evidence)
        if phrase:
            return phrase
    return ""


def shape_cause(error: GradientShapeError) -> str:
    """Returns the cause of a gradient that does not even have the shape of its argument."""
    got, expected = error.got, error.expected
    if isinstance(got, str):
        return f"a {got} instead of an array"
    if got == expected[::-1]:
        return "transposed: the gradient has the axes of its argument in reverse order"
    if _broadcasts(expected, got):
        return f"missing un-broadcast: the argument was broadcast from {expected} to {got}, and its gradient is not summed back (sum_to)"
    return "a gradient of another shape"


def not_finite(e: Evidence) -> str | None:
    return None if np.all(np.isfinite(e.wrong)) else "the gradient is not finite where the function is smooth"


def nothing(e: Evidence) -> str | None:
    return None if e.wrong.any() else "detached, or multiplied by 0: the gradient is 0 everywhere"


def factor(e: Evidence) -> str | None:
    right = e.right
    s = float(np.vdot(right, e.wrong) / np.vdot(right, right)) if right.any() else 0.0
    return f"a factor of {_named(s, e)}" if s and e.explains(s * right) else None


def _named(s: float, e: Evidence) -> str:
    """Returns the factor and what it may be: a length or size of an argument or output, or its inverse."""

    def equal(value: float) -> bool:
        return abs(s - value) <= 1e-4 * abs(value)

    if equal(-1):
        return "-1: the sign is wrong"
    lengths = {n: text for n, text in reversed(list(_lengths(e))) if n > 1}
    axes = [(n, text) for n, text in reversed(list(_lengths(e))) if n > 1 and text.startswith("the length")]
    roots = {n: text for n, text in axes if equal(n**0.5) or equal(n**-0.5)}
    for n, text in lengths.items():
        others = [f"√{m}, {m} being {of}" for m, of in roots.items()] + _windows(e, n)
        if others and (equal(n) or equal(-n) or equal(1 / n) or equal(-1 / n)):
            number = f"{s:.6g}" if abs(s) > 1 else f"1/{n}"
            return number + _PERHAPS.format(", or from ".join([text, *others]))
        if equal(n) or equal(-n):
            return f"{s:.6g}, {text}: a division by it is missing{_OR_TWO.format('too many') * (n == 2)}"
        if equal(1 / n) or equal(-1 / n):
            broadcast = _broadcasts(e.wrong.shape[1:], e.problem.shapes[0]) and n == np.prod(e.problem.shapes[0]) / e.wrong[0].size
            mean = "missing un-broadcast: a mean where a sum belongs" if broadcast else "it divides once too often"
            return f"1/{n}, {n} being {text}: {mean}{_OR_TWO.format('missing') * (n == 2 and not broadcast)}"
    for n, text in lengths.items():
        axis = text.startswith("the length")  # whose root or fraction belongs to a formula; a round number stands for itself
        for value, said in ((n**0.5, f"√{n}"), (n**-0.5, f"1/√{n}"), ((n - 1) / n, f"{n - 1}/{n}"), (n / (n - 1), f"{n}/{n - 1}")):
            if axis and equal(value) and abs(100 * value - round(100 * value)) > 1e-9:
                return f"{s:.6g}, which is {said}, {n} being {text}"
    return f"{s:.6g}"


def _windows(e: Evidence, n: int) -> list[str]:
    """Returns what else a factor of n may be where elements are pooled or repeated: how many of one side stand for one of the other."""
    size, found = e.wrong[0].size, []
    for i, shape in enumerate(e.problem.shapes):
        if len(shape) == e.wrong.ndim - 1 and 1 not in (*shape, *e.wrong.shape[1:]):
            if size == n * np.prod(shape):
                found.append(f"the {n} elements of the argument for one of output {i}")
            elif np.prod(shape) == n * size:
                found.append(f"the {n} elements of output {i} for one of the argument")
    return found


def _lengths(e: Evidence) -> Iterator[tuple[int, str]]:
    """Yields (number, what it is), the more likely ones first."""
    arrays = [(f"output {i}", shape) for i, shape in enumerate(e.problem.shapes)]
    arrays += [(name, x.shape) for name, x in zip(e.problem.names, e.problem.xs, strict=True)]
    for name, shape in arrays:
        yield int(np.prod(shape)), f"the size of {name}"
        yield int(np.prod(shape[:-1])), f"the number of rows of {name}"
        for axis, n in enumerate(shape):
            yield n, f"the length of axis {axis} of {name}"


def swapped(e: Evidence) -> str | None:
    same = [j for j, x in enumerate(e.problem.xs) if j != e.k and x.shape == e.wrong.shape[1:]]
    found = [j for j in same if e.explains((e.cotangents @ e.problem.measured(j)).reshape(e.wrong.shape))]
    return f"swapped arguments: this is the gradient of {e.problem.names[found[0]]}" if found else None


def slices(e: Evidence) -> str | None:
    """A sum over an axis of the output of which only one slice, or all but one, reached the argument."""
    for o, (part, shape) in enumerate(e.output_parts()):
        if shape == e.wrong.shape[1:]:
            continue  # element by element: see the masks
        for axis, n in enumerate(shape):
            for i in {0, n - 1} if n > 1 else ():
                for only in (True, False):
                    kept = np.full(shape, not only)
                    kept[(slice(None),) * axis + (i,)] = only
                    c = e.cotangents.copy()
                    c[:, part] *= kept.ravel()
                    if e.explains(e.vjp(c)):
                        which = f"{'only' if only else 'all but'} index {i} of axis {axis} of output {o} arrives"
                        return f"{'missing un-broadcast: ' * _aligned(e, part, shape)}{which}, and not the sum over its {n}"
    return None


def _aligned(e: Evidence, part: slice, shape: tuple[int, ...]) -> bool:
    """True if an output of this shape may be element by element in the argument, broadcast: no element reaches most of the output."""
    repeated = np.prod(shape) / max(1, e.wrong[0].size)
    return _broadcasts(e.wrong.shape[1:], shape) and bool((np.abs(e.problem.measured(e.k)[part]) > 1e-9).sum(0).max() <= repeated)


def transposed(e: Evidence) -> str | None:
    """The right numbers, but with the axes in another order."""
    axes = tuple(range(1, e.wrong.ndim))
    for order in itertools.islice(itertools.permutations(axes), 1, 24):
        if e.explains(e.right.transpose(0, *order).reshape(e.wrong.shape)):
            return f"transposed: the gradient has its axes in the order {[a - 1 for a in order]}"
    for axis in axes:
        if e.wrong.shape[axis] > 1 and e.explains(np.flip(e.right, axis)):
            return f"reversed: the gradient runs backwards along axis {axis - 1}"
    return None


def operand(e: Evidence) -> str | None:
    """What would be right if another argument or the incoming gradient were transposed."""
    for j, x in enumerate(e.problem.xs):
        if j == e.k or x.ndim < 2 or x.shape[-1] != x.shape[-2]:
            continue
        kept = x.data.copy()
        x.data[...] = kept.swapaxes(-1, -2).copy()
        try:
            jacobian = e.problem.measured(e.k)
        finally:
            x.data[...] = kept
        if e.explains(e.vjp(e.cotangents, jacobian)):
            return f"transposed operand: right if {e.problem.names[j]} were transposed"
    for o, (part, shape) in enumerate(e.output_parts()):
        if len(shape) > 1 and shape[-1] == shape[-2]:
            c = e.cotangents.copy()
            c[:, part] = c[:, part].reshape(-1, *shape).swapaxes(-1, -2).reshape(len(c), -1)
            if e.explains(e.vjp(c)):
                summed = ", as when it is summed over the wrong axis" if e.wrong.ndim - 1 < len(shape) else ""
                return f"transposed operand: right if the incoming gradient of output {o} were transposed{summed}"
    return None


def masks(e: Evidence) -> str | None:
    """Zeros where the right gradient has none, or the reverse; elsewhere equal."""
    return _masked(e, scaled=False)


def masks_and_factor(e: Evidence) -> str | None:
    """Zeros where the right gradient has none, or the reverse; elsewhere equal up to a factor."""
    return _masked(e, scaled=True)


def _masked(e: Evidence, *, scaled: bool) -> str | None:
    scale = max(np.abs(e.right).max(), np.abs(e.wrong).max())
    zero_right, zero_wrong = (np.abs(g).max(0) <= 1e-7 * scale for g in (e.right, e.wrong))
    for places, phrase in (
        (zero_right & ~zero_wrong, "missing mask: not zero at {n} elements where the right gradient is"),
        (zero_wrong & ~zero_right, "a mask too many: zero at {n} elements where the right gradient is not"),
    ):
        if not places.any():
            continue
        a, b = e.wrong[:, ~places], e.right[:, ~places]
        s = float(np.vdot(b, a) / np.vdot(b, b)) if b.any() else 1.0
        if np.linalg.norm(a - s * b) <= 1e-4 * np.linalg.norm(a) and (abs(s - 1) >= 1e-4) == scaled:
            rest = "" if abs(s - 1) < 1e-4 else f", and a factor of {s:.6g} elsewhere"
            first = [int(n) for n in np.argwhere(places)[0]]
            return phrase.format(n=int(places.sum())) + f", such as {first}{rest}"
    return None


def reduced(e: Evidence) -> str | None:
    """One number along an axis where each element should have its own."""
    for axis in range(1, e.wrong.ndim):
        for name, total in (("sum", e.right.sum), ("mean", e.right.mean)):
            if e.wrong.shape[axis] > 1 and e.explains(np.broadcast_to(total(axis, keepdims=True), e.wrong.shape)):
                return f"reduced: each element has the {name} of the right gradients along axis {axis - 1}"
    return None


def level(e: Evidence) -> str | None:
    """Off by the same amount along an axis: a sum or mean over it was treated as a constant."""
    off = e.wrong - e.right
    for axis in range(1, e.wrong.ndim):
        spread = np.linalg.norm(off - off.mean(axis, keepdims=True))
        if e.wrong.shape[axis] > 1 and spread <= 2e-3 * np.linalg.norm(off):
            return f"detached term: off by one amount along axis {axis - 1}, as when the sum or mean over it is held constant"
    return None


def second_order(e: Evidence) -> str | None:
    if not isinstance(e.problem, SecondOrder):
        return None
    return "detached term: the vjp computes with a value that has no graph (a raw array, `constant`, `detach`)"


def _broadcasts(small: tuple[int, ...], large: tuple[int, ...]) -> bool:
    """True if `small` can be broadcast to `large` and is different from it."""
    try:
        return small != large and np.broadcast_shapes(small, large) == large
    except ValueError:
        return False


HYPOTHESES: list[Hypothesis] = [
    not_finite, second_order, nothing, wrong_op, not_linear, factor, swapped, slices, transposed, operand, forwards_again, diagonal_only,
    overwritten, other_mask, misplaced, ends, region, masks, array_factor, reduced, detached, repaired, masks_and_factor, level,
]  # fmt: skip
