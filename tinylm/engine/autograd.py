"""The tape: nodes that remember which op made a tensor, and the walk back through them.

A `Node` is one application of an op. The walk keeps a heap of nodes ordered by age and always
takes the youngest: every consumer of a tensor is younger than the node that made it, so a node is
taken only when its gradient is complete. No recursion, no counting pass, and a checkpoint can
add nodes in the middle of the walk, because they are younger than all that is still to come.

Tensors are duck-typed here: anything with data, grad, grad_buffer, requires_grad, node, output.
"""

import contextlib
import heapq
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from types import CodeType
from typing import Any

from tinylm.engine.anomalies import anomaly, check_gradients
from tinylm.engine.arrays import Array, array_module
from tinylm.engine.devices import device_of, make_current
from tinylm.errors import AnomalyError, AutogradError, DeviceError, GradientShapeError, ShapeError


class _Mode(threading.local):
    recording = True


mode = _Mode()
clock = itertools.count(1)  # ticks with every node and every in-place write, so their order is known


class Node:
    """One application of an op: what is needed to run its vjp, and to name it in a message."""

    __slots__ = ("age", "cells", "code", "inputs", "offset", "op", "outputs", "parents", "place", "settings", "vjp")
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
        self.vjp: Any = vjp
        self.cells = cells  # when the inputs and outputs were last written in place; shared with the tensors
        self.code = code
        self.offset = offset
        self.outputs: Any = None  # for several outputs: a maker of zeros for each

    def where(self) -> str:
        """'file:line' of the call that made this node; in anomaly mode also of the user's line that led to it."""
        if hasattr(self, "place"):
            return self.place
        line = self.code.co_firstlineno
        for start, end, number in self.code.co_lines():
            if start <= self.offset < end and number is not None:
                line = number
                break
        return f"{self.code.co_filename}:{line}"

    def __repr__(self) -> str:
        return f"<{self.op.name} at {self.where()}>"

    def complain(self) -> None:
        """AutogradError: the graph was freed, or a value of this node changed since."""
        if self.parents is None:
            raise AutogradError(
                f"backward through {self.op.name} ({self.where()}) a second time: its graph was freed; pass retain_graph=True first"
            )
        raise AutogradError(
            f"backward through {self.op.name} ({self.where()}): an input or output was changed in place after it was recorded"
        )


# ---------------------------------------------------------------- modes


@contextlib.contextmanager
def set_recording(value: bool) -> Iterator[None]:
    """Within it, ops are recorded or not."""
    before, mode.recording = mode.recording, value
    try:
        yield
    finally:
        mode.recording = before


def no_grad() -> "contextlib._GeneratorContextManager[None]":
    """Within it nothing is recorded: results do not require gradients. Also a decorator."""
    return set_recording(False)


# ---------------------------------------------------------------- the walk


def _raw(x: Any) -> Any:
    return x.data if hasattr(x, "requires_grad") else x


def seed_gradient(y: Any, gradient: Any) -> Array:
    if not y.requires_grad:
        raise AutogradError("backward on a tensor that does not depend on anything that requires a gradient")
    make_current(y.data)
    if gradient is None:
        if y.data.size != 1:
            raise AutogradError(f"backward on a tensor of shape {y.shape} needs a cotangent: only a scalar has an obvious one")
        return array_module(y.data).ones_like(y.data)
    if not hasattr(gradient, "shape"):
        gradient = array_module(y.data).asarray(gradient, y.dtype)  # a number, or nested lists
    if tuple(gradient.shape) != tuple(y.shape):
        raise ShapeError(f"the cotangent has shape {tuple(gradient.shape)}, the tensor {tuple(y.shape)}")
    if (device := device_of(_raw(gradient))) != y.device:
        raise DeviceError(f"the cotangent is on {device}, the tensor on {y.device}")
    return gradient


def apply_vjp(node: Node, slots: list[Any], create_graph: bool) -> Sequence[Any]:
    """Runs the node's vjp on its outputs' gradients; absent ones of several outputs are zeros."""
    vjp = node.vjp
    if create_graph:
        vjp = node.op.record_vjp(node.inputs, node.settings)
    if node.outputs is not None:
        slots = [make() if s is None else s for s, make in zip(slots, node.outputs, strict=True)]
        if create_graph:
            slots = [node.op.as_tensor(s) for s in slots]
    try:
        return vjp(*slots)
    except AnomalyError as error:  # create_graph: the vjp is made of ops
        raise AnomalyError(f"{error}; this is in the gradient of {node.op.name} ({node.where()})") from error


def _walk(y: Any, dy: Any, leaf: Callable[[Any, Any], None], create_graph: bool, retain_graph: bool, plan: "_Plan | None" = None) -> None:
    """Carries dy from y back to the leaves, handing each leaf's gradients to `leaf(tensor, g)`."""
    pending: dict[Node, list[Any]] = {}  # the gradient of each output so far
    owned: set[tuple[int, int]] = set()  # sums that this walk allocated and may add into
    heap: list[tuple[int, Node]] = []
    targets: Any = [y]
    grads: Sequence[Any] = [dy]
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
            node.complain()
        age = node.age
        for cell in node.cells:
            if cell[0] > age:
                node.complain()
        if node.vjp is None:  # a checkpoint: its function runs again, and the walk goes on inside
            targets, grads = node.op(node.inputs), slots
            targets = [t if t.requires_grad else None for t in targets]
        else:
            grads = node.vjp(slots[0]) if node.outputs is None and not create_graph else apply_vjp(node, slots, create_graph)
            grads = fitted(node, grads)
            if anomaly.detect:
                asked = [g for g, tensor in zip(grads, node.parents, strict=True) if tensor is not None]
                check_gradients(f"{node.op.name} ({node.where()})", asked, slots, node.inputs)
        if not retain_graph:
            node.vjp = node.inputs = node.parents = None
        del slots


def fitted(node: Node, grads: Sequence[Any]) -> Sequence[Any]:
    """The gradients in their tensors' dtypes; ShapeError for a vjp that breaks its contract."""
    if type(grads) not in (tuple, list) or len(grads) != len(node.parents):
        got = f"{len(grads)} gradients" if type(grads) in (tuple, list) else f"{type(grads).__name__}, not a tuple of gradients,"
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


def _accumulate(tensor: Any, g: Array) -> None:
    """Adds g into tensor.grad; in place only in a buffer made for this tensor's gradients."""
    if not tensor.requires_grad:
        return
    buffer = tensor.grad_buffer
    if tensor.grad is None:
        if buffer is None:
            tensor.grad = array_module(g).array(g, order="C")  # a copy: a vjp may return one array twice, or a view
        else:
            buffer[...] = g
            tensor.grad = buffer
    elif tensor.grad is buffer:
        array_module(buffer).add(buffer, g, out=buffer)
    else:
        tensor.grad = tensor.grad + g


def backward(y: Any, gradient: Any = None, retain_graph: bool = False) -> None:
    """Adds dy/dx to x.grad for every leaf x that requires a gradient and took part in y.

    y: a tensor; `gradient` its cotangent (an array or tensor of y's shape), 1 by default when y
    has one element. The graph is freed as it is consumed unless `retain_graph`.
    Errors: AutogradError when y has no graph, the graph was freed, or a value changed since; ShapeError or
    DeviceError when the cotangent's shape or device is not y's.
    """
    dy = seed_gradient(y, gradient)
    _walk(y, _raw(dy), _accumulate, create_graph=False, retain_graph=retain_graph)


class _Plan:
    """For `grad`: which nodes lead to a wanted tensor, and the gradients found so far."""

    def __init__(self, y: Any, wanted: Sequence[Any]) -> None:
        self.found: dict[tuple[int, int], Any] = {}
        self.leaves = {id(x) for x in wanted if x.node is None}
        self.stops: dict[Node, set[int]] = {}
        for x in wanted:
            if x.node is not None:
                self.stops.setdefault(x.node, set()).add(x.output)
        self.below: dict[Node, bool] = {}  # does something that the node consumed lead to a wanted tensor?
        nodes, stack = set(), [y.node] if y.node is not None else []
        while stack:
            node = stack.pop()
            if node in nodes:
                continue
            nodes.add(node)
            if node.parents is not None:  # a freed node is reported by the walk
                stack.extend(t.node for t in node.parents if t is not None and t.node is not None)
        for node in sorted(nodes, key=lambda n: n.age):
            self.below[node] = (
                node.parents is None
                or node.vjp is None  # a checkpoint: what its function captured is known only when it runs
                or any(id(t) in self.leaves or (t.node is not None and self.reaches(t.node)) for t in node.parents if t is not None)
            )

    def reaches(self, node: Node) -> bool:
        """True when the walk must visit the node (nodes made during the walk always are)."""
        return node in self.stops or self.below.get(node, True)

    def take(self, node: Node, slots: list[Any]) -> bool:
        """Keeps a wanted gradient; True when the walk need not go on below the node."""
        for i in self.stops.get(node, ()):
            if slots[i] is not None:
                self.found[node.age, i] = slots[i]
        return not self.below.get(node, True)

    def leaf(self, tensor: Any, g: Any) -> None:
        if id(tensor) in self.leaves:
            key = (id(tensor), -1)
            self.found[key] = self.found[key] + g if key in self.found else g

    def result(self, x: Any) -> Any:
        return self.found.get((id(x), -1) if x.node is None else (x.node.age, x.output))


def grad(y: Any, xs: Any, gradient: Any = None, *, create_graph: bool = False, retain_graph: bool | None = None) -> Any:
    """dy/dx for each x, as tensors in a list (one tensor when xs is one); touches no `.grad`.

    xs may be leaves or intermediate tensors; one that y does not depend on gives None. With
    `create_graph` the results carry a graph of their own, so they can be differentiated again;
    `retain_graph` defaults to it.
    """
    wanted = list(xs) if isinstance(xs, (list, tuple)) else [xs]
    for i, x in enumerate(wanted):
        if not x.requires_grad:
            raise AutogradError(f"grad: argument {i} of shape {x.shape} does not require a gradient")
    dy = seed_gradient(y, gradient)
    dy = y.as_tensor(dy) if create_graph else _raw(dy)
    plan = _Plan(y, wanted)
    with set_recording(create_graph):
        _walk(y, dy, plan.leaf, create_graph, create_graph if retain_graph is None else retain_graph, plan)
    found = [plan.result(x) for x in wanted]
    results = [g if g is None or create_graph else y.as_tensor(g) for g in found]
    return results if isinstance(xs, (list, tuple)) else results[0]
