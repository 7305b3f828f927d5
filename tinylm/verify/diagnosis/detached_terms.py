"""Finds whether a gradient is wrong because a part of the computation was treated as a constant.

Three parts are tried: an output whose gradient is not used, a `detach` in the function, and any
intermediate value of an op's own formula. For the last one the body of the op is run on tensors, so
that its small ops are recorded: if one of them is held constant, the gradient is the right one minus
what flows through that op.
"""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np

from tinylm.engine.arrays import array_module
from tinylm.engine.autograd import Node, nodes
from tinylm.engine.grad import grad
from tinylm.engine.tensor import Tensor
from tinylm.verify.diagnosis.evidence import Evidence
from tinylm.verify.jacobians import flatten

_MOST = 200  # intermediate values


def detached(e: Evidence) -> str | None:
    return _dropped_output(e) or _detach(e) or _held_constant(e)


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


def _held_constant(e: Evidence) -> str | None:
    made = nodes(e.y)[:-1]  # without the op that joins the outputs
    if len(made) != 1 or not any(p is e.problem.xs[e.k] for p in made[0].parents):
        return None
    x = e.problem.xs[e.k]
    y = _by_small_ops(made[0])
    if y is None or not y.requires_grad:
        return None
    for node, t in list(_values(nodes(y)[:-1]))[:_MOST]:
        through = []
        for c in e.cotangents:
            at_t = grad(y, t, array_module(y.data).asarray(c), retain_graph=True)
            part = None if at_t is None else grad(t, x, at_t, retain_graph=True)
            through.append(np.zeros(x.shape) if part is None else part.numpy())
        if np.any(through) and e.explains(e.right - np.array(through)):
            return f"detached term: the {node.op.name} at {node.where()} is held constant"
    return None


def _by_small_ops(node: Node) -> Tensor | None:
    """Returns the outputs of an op's node as one vector, from its body run on tensors; None if it cannot be run on them."""
    op, (extra, settings) = node.op, node.settings
    inputs = [Tensor(a) if not isinstance(a, Tensor) and getattr(getattr(a, "dtype", None), "kind", "") == "f" else a for a in node.inputs]
    args = [list(inputs)] if op.sequence else inputs
    with contextlib.suppress(Exception):  # a body may do what tensors cannot
        value: Any = op.composed(*args, *extra, **settings) if op.composed else op.body(*args, *extra, **settings)[0]
        outputs = value if isinstance(value, tuple) else (value,)
        return flatten([t for t in outputs if isinstance(t, Tensor)])
    return None


def _values(made: list[Node]) -> Iterator[tuple[Node, Tensor]]:
    """Yields the intermediate tensors of a graph, each with the node that made it."""
    seen: set[int] = set()
    for node in made:
        for t in node.parents:
            if t is not None and t.node is not None and id(t) not in seen:
                seen.add(id(t))
                yield t.node, t
