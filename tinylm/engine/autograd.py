"""The tape: nodes that remember which op made a tensor, and the walk that computes gradients.

A `Node` is one application of an op. The walk keeps a heap of nodes ordered by age and always
takes the youngest: every consumer of a tensor is younger than the node that made it, so a node is
taken only when its gradient is complete. There is no recursion and no counting pass, and a
recomputed function can add nodes in the middle of the walk, because they are younger than all
that is still to come. `backward`, `grad` and `explain.steps` all use this one walk.

Tensors are duck-typed here: anything with data, grad, grad_buffer, requires_grad, node, output.
"""

import contextlib
import heapq
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from types import CodeType
from typing import Any, NoReturn, Protocol, TypeAlias

import numpy as np

from tinylm.engine.anomalies import anomaly, check_gradients
from tinylm.engine.arrays import Array, array_module, constant
from tinylm.engine.devices import device_of, make_current
from tinylm.engine.gradient_places import accumulate, offer, withdraw
from tinylm.engine.op_errors import refuse_second_order
from tinylm.engine.products import products_mode, rounding
from tinylm.errors import AnomalyError, AutogradError, DeviceError, GradientShapeError, ShapeError


class _Mode(threading.local):
    recording = True


mode = _Mode()
clock = itertools.count(1)  # ticks with every node and every in-place write, so their order is known


class Node:
    """One application of an op: what is needed to run its vjp, and to name it in a message."""

    __slots__ = ("age", "cells", "code", "inputs", "offset", "op", "outputs", "parents", "place", "rounded", "settings", "vjp")
    place: str  # set in anomaly mode only

    def __init__(
        self,
        op: Any,
        inputs: Sequence[Any],
        settings: tuple[tuple[Any, ...], dict[str, Any]],
        parents: list[Any],
        vjp: Callable[..., Any] | None,
        cells: list[list[int]],
        code: CodeType,
        offset: int,
    ) -> None:
        self.age = next(clock)
        self.op = op
        self.inputs: Any = inputs  # as the caller passed them: for create_graph and for `explain`
        self.settings = settings
        self.parents: Any = parents  # parallel to the vjp's results: a tensor, or None for no gradient
        self.vjp: Any = vjp  # None for a recomputed function
        self.cells = cells  # when the inputs and outputs were last written in place; shared with the tensors
        self.code = code  # of the caller, with the offset of the instruction that made the call: `where` finds the line
        self.offset = offset
        self.rounded = products_mode.rounded  # whether products rounded their operands: so they do in derivatives of derivatives
        self.outputs: Any = None  # for several outputs: a maker of zeros for each

    def where(self) -> str:
        """Returns 'file:line' of the call that made this node; in anomaly mode also of the user's line that led to it."""
        if hasattr(self, "place"):
            return self.place
        lines = (number for start, end, number in self.code.co_lines() if start <= self.offset < end and number is not None)
        return f"{self.code.co_filename}:{next(lines, self.code.co_firstlineno)}"

    def __repr__(self) -> str:
        return f"<{self.op.name} at {self.where()}>"

    def raise_stale(self) -> NoReturn:
        """Raises AutogradError: the graph was freed, or a value of this node has changed since."""
        freed = (
            " a second time: its graph was freed; pass retain_graph=True first, or, if a state is carried from one step to the next, "
            "cut the graph between them with state = state.detach()"
        )
        changed = ": an input or output was changed in place after it was recorded"
        raise AutogradError(f"backward through {self.op.name} ({self.where()}){freed if self.parents is None else changed}")


def nodes(output: Any) -> list[Node]:
    """Returns every node that led to a tensor, the oldest first and the tensor's own node last.

    Empty for a leaf. A freed node is listed; what led to it is no longer known.
    """
    found: set[Node] = set()
    stack = [output.node]
    while stack:
        node = stack.pop()
        if node is not None and node not in found:
            found.add(node)
            stack.extend(parent.node for parent in node.parents or () if parent is not None)
    return sorted(found, key=lambda node: node.age)


# ---------------------------------------------------------------- modes


@contextlib.contextmanager
def set_recording(value: bool) -> Iterator[None]:
    """Within it, ops are recorded or not; also a decorator."""
    before, mode.recording = mode.recording, value
    try:
        yield
    finally:
        mode.recording = before


def no_grad() -> "contextlib._GeneratorContextManager[None]":
    """Within it nothing is recorded: results do not require gradients. Also a decorator."""
    return set_recording(False)


# ---------------------------------------------------------------- the walk


def seed_gradient(y: Any, gradient: Any) -> Array:
    """Returns the cotangent that the walk starts with: `gradient`, or 1 for a tensor with one element.

    Raises AutogradError if y has no graph or needs a cotangent, ShapeError or DeviceError if the cotangent does not fit y.
    """
    if not y.requires_grad:
        raise AutogradError(
            "backward on a tensor that does not depend on anything that requires a gradient: no parameter or tensor with "
            "requires_grad=True led to it, or it was computed under no_grad() or after detach()"
        )
    make_current(y.data)
    if gradient is None:
        if y.data.size != 1:
            reduced = "reduce it with .mean() or .sum(), or pass an array of that shape, backward(gradient)"
            raise AutogradError(f"backward on a tensor of shape {y.shape} needs a cotangent: only a scalar has an obvious one; {reduced}")
        return array_module(y.data).ones_like(y.data)
    if not hasattr(gradient, "shape"):
        gradient = array_module(y.data).asarray(gradient, y.dtype)  # a number, or nested lists
    if tuple(gradient.shape) != tuple(y.shape):
        raise ShapeError(f"the cotangent has shape {tuple(gradient.shape)}, the tensor {tuple(y.shape)}")
    if (device := device_of(constant(gradient))) != y.device:
        raise DeviceError(f"the cotangent is on {device}, the tensor on {y.device}")
    if isinstance(gradient, np.ndarray) and not gradient.dtype.isnative:
        return gradient.astype(gradient.dtype.newbyteorder("="))
    return gradient


def _apply_vjp(node: Node, slots: list[Any], create_graph: bool) -> Sequence[Any]:
    """Runs the node's vjp on its outputs' gradients; missing ones of several outputs are zeros."""
    if node.outputs is not None:
        slots = [make() if s is None else s for s, make in zip(slots, node.outputs, strict=True)]
        if create_graph:
            slots = [node.op.as_tensor(s) for s in slots]
    if not create_graph:
        return node.vjp(*slots)
    try:
        with rounding(node.rounded):
            return node.op.record_vjp(node.inputs, node.settings)(*slots)
    except AnomalyError as error:  # create_graph: the vjp is made of ops
        raise AnomalyError(f"{error}; this is in the gradient of {node.op.name} ({node.where()})") from error
    except (TypeError, AutogradError) as error:
        refuse_second_order(f"{node.op.name} ({node.where()})", error)
        raise


class Plan(Protocol):
    """Where a walk needs to go and where it may stop (see `tinylm.engine.grad`)."""

    def reaches(self, node: Node) -> bool: ...
    def take(self, node: Node, slots: list[Any]) -> bool: ...


# What `walk` shows of a node: the gradients of its outputs, the tensors that receive a gradient (or None), and these gradients.
Visit: TypeAlias = tuple[Node, list[Any], Sequence[Any], Sequence[Any]]


def walk(
    y: Any,
    dy: Any,
    leaf: Callable[[Any, Any], None],
    *,
    create_graph: bool = False,
    retain_graph: bool = False,
    plan: Plan | None = None,
    observed: bool = False,
) -> Iterator[Visit]:
    """Carries dy from y down to the leaves, and hands each gradient that arrives at one to `leaf(tensor, g)`.

    create_graph: vjps run on tensors, so that what they compute is recorded too. plan: where to go, for `grad`.
    It is a generator: if `observed`, it pauses after the vjp of each node and yields the visit; if not, it yields
    nothing and runs to its end at once.
    """
    pending: dict[Node, list[Any]] = {}  # the gradient of each output so far
    owned: set[tuple[int, int]] = set()  # sums that this walk allocated and may add into
    heap: list[tuple[int, Node]] = []
    targets: Any = [y]
    grads: Sequence[Any] = [dy]
    offering = leaf is accumulate and type(dy) is not np.ndarray  # on a GPU, where copying and adding take launches
    while True:
        for tensor, g in zip(targets, grads):  # noqa: B905 (the lengths were compared)
            if tensor is None or g is None:
                continue
            source = tensor.node
            if source is None:
                leaf(tensor, g)
                continue
            slots = pending.get(source)
            if slots is None:
                if plan is not None and not plan.reaches(source):
                    continue
                slots = pending[source] = [None] if source.outputs is None else [None] * len(source.outputs)
                heapq.heappush(heap, (-source.age, source))
            i = tensor.output
            total = slots[i]
            if total is None:
                slots[i] = g
            elif (source.age, i) in owned and not create_graph:
                array_module(total).add(total, g, out=total)
            else:
                slots[i] = total + g
                if total.ndim:  # NumPy's sum of two 0-d arrays is a scalar, which cannot be added into
                    owned.add((source.age, i))
        if not heap:
            return

        node = heapq.heappop(heap)[1]
        slots = pending.pop(node)
        if plan is not None and plan.take(node, slots):
            targets = grads = ()
            continue
        targets = node.parents
        if targets is None:
            node.raise_stale()
        age = node.age
        for cell in node.cells:
            if cell[0] > age:
                node.raise_stale()
        if node.vjp is None:  # a recomputed function: it runs again, and the walk goes on inside
            targets, grads = node.op(node.inputs), slots
            targets = [t if t.requires_grad else None for t in targets]
        else:
            if offering:
                offer(targets, pending)
            grads = node.vjp(slots[0]) if node.outputs is None and not create_graph else _apply_vjp(node, slots, create_graph)
            grads = _fitted(node, grads)
            if anomaly.detect:
                asked = [g for g, tensor in zip(grads, node.parents, strict=True) if tensor is not None]
                check_gradients(f"{node.op.name} ({node.where()})", asked, slots, node.inputs)
        if observed:
            yield node, slots, targets, grads
        if not retain_graph:
            node.vjp = node.inputs = node.parents = None
        del slots


def _fitted(node: Node, grads: Sequence[Any]) -> Sequence[Any]:
    """Returns the gradients in their tensors' dtypes. Raises ShapeError for a vjp that breaks its contract."""
    if not isinstance(grads, (tuple, list)) or len(grads) != len(node.parents):
        got = f"{len(grads)} gradients" if isinstance(grads, (tuple, list)) else f"{type(grads).__name__}, not a tuple of gradients,"
        raise ShapeError(f"the vjp of {node.op.name} ({node.where()}) returned {got} for {len(node.parents)} arguments")
    for i, (tensor, g) in enumerate(zip(node.parents, grads)):  # noqa: B905
        if tensor is None or g is None:
            continue
        data = tensor.data
        shape = getattr(g, "shape", type(g).__name__)
        if shape != data.shape:
            got = f"returned a gradient of shape {shape} for an argument of shape {tensor.shape}"
            raise GradientShapeError(f"the vjp of {node.op.name} ({node.where()}) {got}", i, shape, tensor.shape)
        if g.dtype is not data.dtype and g.dtype != data.dtype:
            grads = [*grads[:i], g.astype(data.dtype), *grads[i + 1 :]]
    return grads


def backward(y: Any, gradient: Any = None, retain_graph: bool = False) -> None:
    """Adds dy/dx to x.grad for every leaf x that requires a gradient and took part in y.

    y: a tensor. gradient: its cotangent, the gradient of the final result with respect to y (an array or tensor of
    y's shape); 1 by default if y has one element. The graph is freed as it is consumed unless `retain_graph`.
    Raises AutogradError if y has no graph, the graph was freed, or a value has changed since; ShapeError or
    DeviceError if the cotangent's shape or device is not y's.
    """
    dy = seed_gradient(y, gradient)
    try:
        for _ in walk(y, constant(dy), accumulate, retain_graph=retain_graph):
            pass  # the generator runs because it is iterated; not observed, it yields nothing
    finally:
        withdraw()
