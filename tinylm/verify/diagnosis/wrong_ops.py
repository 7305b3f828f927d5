"""Finds the wrong op of a composed function: every op on its tape is checked by itself, on the values that it had."""

from typing import Any

from tinylm import ops
from tinylm.engine.arrays import array_module
from tinylm.engine.autograd import nodes
from tinylm.engine.kernels import registry
from tinylm.engine.op import op
from tinylm.engine.tensor import Tensor
from tinylm.verify.diagnosis.evidence import Evidence


def wrong_op(e: Evidence) -> str | None:
    """Names the first op whose own gradient is wrong, with its line and likely cause; None for a function that is one op."""
    inner = nodes(e.y)[:-1]  # without the op that joins the outputs
    if len(inner) < 2:
        return None
    seen = set()
    node: Any
    for node in inner:
        key = (node.op.name, node.code, node.offset)
        if key in seen or node.vjp is None:  # None: a recomputed function
            continue
        seen.add(key)
        extra, settings = node.settings
        inputs = [_leaf(a) for a in node.inputs]
        report = e.gradcheck(_callable(node), *([inputs] if node.op.sequence else inputs), *extra, mode="directions", **settings)
        if report.failures:
            return f"the op {node.op.name} ({node.where()}) is wrong by itself: {report.failures[0]}"
    return None


def _leaf(a: Any) -> Any:
    if not isinstance(a, Tensor):
        return a
    return array_module(a.data).array(a.data, dtype="float64") if a.dtype.kind == "f" else a.data


def _callable(node: Any) -> Any:
    """Returns the op of a node as a function."""
    name: str = node.op.name
    if registry.get(name) is node.op:
        return getattr(ops, name)
    return op(node.op.body, sequence=node.op.sequence, composed=node.op.composed)
