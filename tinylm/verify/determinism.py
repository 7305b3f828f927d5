"""Checks that a function gives the same numbers each time: two forward passes, and two backward passes through one graph;
and that its vjps leave the incoming gradient alone and do not fall back to single precision."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinylm.engine.arrays import array_module, constant
from tinylm.engine.autograd import Node, nodes
from tinylm.engine.devices import to_numpy
from tinylm.verify.jacobians import Problem
from tinylm.verify.reports import Row, joint_norm, relative_error


def repetitions(problem: Problem, cotangent: np.ndarray) -> list[Row]:
    """Returns one row for each repetition that gives other numbers, and one if an argument was written to; none if
    everything is equal bit for bit."""
    first, second = problem.taped(), problem.taped()
    vjp, again, other = (problem.vjp(y, cotangent) for y in (first, first, second))
    changed = "the vjp changes what it captured, or is not deterministic"
    runs = [
        ("values of two runs", [first.numpy()], [second.numpy()], "not deterministic"),
        ("gradients of two backward passes through one graph", vjp, again, changed),
        ("gradients of two runs", vjp, other, "not deterministic"),
        ("arguments before and after", [x.numpy() for x in problem.xs], problem.start, "the function writes into its arguments"),
    ]
    rows = []
    for name, a, b, explanation in runs:
        if not all(np.array_equal(x, y, equal_nan=True) for x, y in zip(a, b, strict=True)):
            norm = joint_norm(b)
            rows.append(Row(name, max(relative_error(x, y, norm) for x, y in zip(a, b, strict=True)), explanation))
    return rows


def trespasses(problem: Problem, cotangent: np.ndarray) -> list[Row]:
    """Returns one row for each op whose vjp writes into the incoming gradient, or returns what has only the digits of
    float32 for a float64 argument."""
    found: dict[str, Row] = {}
    y = problem.taped()
    for node in nodes(y):
        if node.vjp is not None:
            node.vjp = _watched(node, node.vjp, found)
    problem.vjp(y, cotangent)
    return list(found.values())


def _watched(node: Node, vjp: Callable[..., Any], found: dict[str, Row]) -> Callable[..., Any]:
    """Returns the vjp of a node, which adds to `found` what it does wrong."""

    def watched(*dys: Any) -> Any:
        before = [dy.copy() for dy in dys]
        gradients = vjp(*dys)
        for dy, old in zip(dys, before, strict=True):
            if not bool(((dy == old) | (old != old)).all()):
                name = f"incoming gradient of {node.op.name}"
                found[name] = Row(name, float("inf"), f"its vjp changes it in place ({node.where()})")
        if any(map(_single, before)):
            return gradients
        least = 1e-6 * max((float(abs(dy).max()) for dy in before if dy.size), default=0.0)
        for x, g in zip(node.parents, gradients, strict=True):
            if x is not None and g is not None and x.dtype == np.float64 and _single(g, least):
                name = f"gradient of {node.op.name}"
                found[name] = Row(name, float("inf"), f"its vjp computes in float32 for a float64 argument ({node.where()})")
        return gradients

    return watched


def single_within(problem: Problem) -> str:
    """Returns which op's vjp computes in float32 at least in part, and where it was called; "" if none is found.

    Under an incoming gradient of ones its gradient has hardly more digits than float32, though an argument has.
    """
    found: list[str] = []

    def watched(node: Node, vjp: Callable[..., Any]) -> Callable[..., Any]:
        def probed(*dys: Any) -> Any:
            given = [constant(x) for x in node.inputs if getattr(x, "dtype", None) == np.float64]
            ones = vjp(*(array_module(dy).ones_like(dy) for dy in dys))
            for x, g in zip(node.parents, ones, strict=True) if not all(map(_single, given)) else []:
                if x is not None and g is not None and _digits_of_single(constant(g), given):
                    found.append(f"{node.op.name} ({node.where()})")
            return vjp(*dys)

        return probed

    y = problem.taped()
    for node in nodes(y):
        if node.vjp is not None:
            node.vjp = watched(node, node.vjp)
    problem.vjp(y, np.ones(y.size))
    return found[0] if found else ""


def _digits_of_single(g: Any, given: Sequence[Any]) -> bool:
    """True if the numbers of g have at most 32 significant bits, float32's 24 and those of a small factor, and one has more
    than 12 and is none of the given numbers, such as a weight. What is small beside 1 or a given number may have cancelled."""
    g, known = to_numpy(g), np.concatenate([to_numpy(x).ravel() for x in given])
    whole = g[np.isfinite(g) & (np.abs(g) > 2**-20 * np.max(np.abs(known), initial=1))]
    new = whole[~np.isin(whole, known)]
    return bool((np.frexp(whole)[0] * 2**32 % 1 == 0).all() and (np.frexp(new)[0] * 2**12 % 1 != 0).any())


def _single(g: Any, least: float = 0.0) -> bool:
    """True for an array in float32, or in float64 if all its numbers are numbers of float32, and not all are zero or
    below `least`: what rounding leaves of a zero has few digits."""
    data = getattr(g, "data", g) if not isinstance(g, np.ndarray) else g
    if not hasattr(data, "dtype") or data.dtype.kind != "f":
        return False
    with np.errstate(all="ignore"):
        kept = data[(data != 0) & (abs(data) < np.inf)]
        return data.dtype == np.float32 or bool(kept.size and abs(kept).max() > least and (kept == kept.astype(np.float32)).all())
