"""Finds whether a gradient is wrong because what flows through one part of the computation is missing, or has a wrong factor.

The parts are: an output whose gradient is not used, a `detach` in the function, and any intermediate value t of an op's own
formula. For the last one the body of the op is run on tensors, so that its small ops are recorded. What flows through t is
(∂y/∂t ∂t/∂x)ᵀ c: without it the gradient is wrong by -1 times that amount, with the wrong sign by -2 times, and so on.
"""

import sys
from collections.abc import Iterator
from unittest import mock

import numpy as np

from tinylm.engine.arrays import array_module
from tinylm.engine.autograd import Node, nodes
from tinylm.engine.grad import grad
from tinylm.engine.tensor import Tensor
from tinylm.verify.diagnosis.evidence import Evidence
from tinylm.verify.diagnosis.repairs import repaired
from tinylm.verify.diagnosis.tensor_bodies import by_small_ops

_MOST = 200  # intermediate values
_EXACT = 1e-6  # of the error, that a fitted factor may leave
_HELD = 1e-4  # of the error, that a part held constant may leave


def detached(e: Evidence) -> str | None:
    return _dropped_output(e) or _detach(e) or _part(e)


def _dropped_output(e: Evidence) -> str | None:
    parts = e.output_parts()
    for o, (part, _) in enumerate(parts) if len(parts) > 1 else []:
        c = e.cotangents.copy()
        c[:, part] = 0
        if e.explains(e.vjp(c)):
            return f"detached term: the gradient of output {o} is not used"
    return None


def _detach(e: Evidence) -> str | None:
    """Is the gradient right if Tensor.detach does nothing?"""
    calls: list[str] = []

    def through(tensor: Tensor) -> Tensor:
        frame = sys._getframe(1)
        calls.append(f"{frame.f_code.co_filename}:{frame.f_lineno}")
        return tensor

    with mock.patch.object(Tensor, "detach", through):
        y = e.problem.taped()
    if not calls:
        return None
    gradients = np.array([e.problem.vjp(y, c)[e.k] for c in e.cotangents])
    if np.linalg.norm(gradients - e.right) > 0.02 * np.linalg.norm(e.right - e.wrong):
        return None
    return f"detached term: right without the detach() at {', '.join(sorted(set(calls)))}"


def _part(e: Evidence) -> str | None:
    made = nodes(e.y)[:-1]  # without the op that joins the outputs
    if len(made) != 1 or not any(p is e.problem.xs[e.k] for p in made[0].parents):
        return None
    x = e.problem.xs[e.k]
    y = by_small_ops(made[0])
    if y is None or not y.requires_grad:
        return None
    off, top, fitted, skipped = e.wrong - e.right, np.abs(e.right).max(), "", ""
    held = ""
    for node, t in list(_values(nodes(y)[:-1]))[:_MOST]:
        at_t = [grad(y, t, array_module(y.data).asarray(c), retain_graph=True) for c in e.cotangents]
        through = np.array([_reached(t, x, c) for c in at_t])
        if np.abs(through).max() <= 1e-12 * top:
            _cut(t, nodes(y))  # such as the maximum that softmax subtracts: no cause in itself, but it spoils the parts of others
            continue
        what = f"the {node.op.name} at {node.where()}"
        if np.linalg.norm(off + through) <= _HELD * np.linalg.norm(off):
            held = f"detached term: {what} is held constant"  # the last of a chain is what the author would call it
        part = float(np.vdot(through, off) / np.vdot(through, through))
        if not fitted and not np.allclose(through, e.right) and np.linalg.norm(off - part * through) <= _EXACT * np.linalg.norm(off):
            how = "has the wrong sign" if abs(part + 2) < _EXACT else f"has a factor of {1 + part:.6g}"
            fitted = f"wrong term: what flows back through {what} {how}"
        if not skipped and (parent := _shaped_alike(node, t)) is not None:
            past = np.array([_reached(parent, x, c) for c in at_t])
            if e.explains(e.right - through + past):
                skipped = f"forgotten derivative: the gradient passes {what} unchanged"
    if fitted and not held:  # an edit names the line of the vjp, and not one of the formula
        fitted = repaired(e) or fitted
    return held or fitted or skipped or None


def _cut(t: Tensor, made: list[Node]) -> None:
    """Makes a tensor a constant in a graph."""
    for node in made:
        node.parents = [None if p is t else p for p in node.parents]


def _reached(t: Tensor, x: Tensor, at_t: Tensor | None) -> np.ndarray:
    """Returns the gradient of x from that of t."""
    if at_t is None or not t.requires_grad:
        return np.zeros(x.shape)
    found = at_t if t is x else grad(t, x, at_t, retain_graph=True)
    return np.zeros(x.shape) if found is None else found.numpy()


def _shaped_alike(node: Node, t: Tensor) -> Tensor | None:
    """Returns the only input of a node with a gradient, if it has the shape of its output t."""
    parents = [p for p in node.parents if p is not None]
    return parents[0] if len(parents) == 1 and parents[0].shape == t.shape else None


def _values(made: list[Node]) -> Iterator[tuple[Node, Tensor]]:
    """Yields the intermediate tensors of a graph, each with the node that made it."""
    seen: set[int] = set()
    for node in made:
        for t in node.parents:
            if t is not None and t.node is not None and id(t) not in seen:
                seen.add(id(t))
                yield t.node, t
