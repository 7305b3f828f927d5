"""The backward pass as it happens: what each node gets, and what it hands on to whom.

The walk is the one of `tinylm.engine.autograd`, in the same order with the same sums, so the gradients are
the same bit for bit. It keeps every piece instead of only adding it up, and frees nothing.
"""

import heapq
import inspect
import linecache
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tinylm.engine.arrays import Array
from tinylm.engine.autograd import Node, apply_vjp, fitted, seed_gradient
from tinylm.engine.tensor import as_array
from tinylm.explain.naming import Names
from tinylm.nn import Module


@dataclass(frozen=True)
class Contribution:
    """What one argument of an op receives.

    argument: its name in the op's signature.  tensor: the tensor that was passed.  name: the
    parameter's path, or 'leaf', or the op that made the tensor and where.  gradient: what this step adds.  count:
    it is the count-th that adds to this tensor.  total: the sum up to here, this one included.
    """

    argument: str
    tensor: Any
    name: str
    gradient: Array
    count: int
    total: Array


@dataclass(frozen=True)
class Step:
    """One node of the backward pass.

    number: 1 is the op that made the loss.  op: its name.  where: 'file:line' of the call, and code the
    text of that line.  module: the path of the module it belongs to, '' if that is unknown.  formula:
    the op's docstring.  inputs: (name, shape) of each argument, None for the shape of a number or an absent
    one.  incoming: the gradient of each output, whole by now; None where none arrived.  received: what
    each argument that requires a gradient gets.
    """

    number: int
    node: Node
    op: str
    where: str
    code: str
    module: str
    formula: str
    inputs: list[tuple[str, tuple[int, ...] | None]]
    incoming: list[Array | None]
    received: list[Contribution]

    def __rich__(self) -> Any:
        from tinylm.explain.terminal import panel

        return panel(self)


def steps(loss: Any, gradient: Any = None, *, model: Module | None = None) -> Iterator[Step]:
    """The backward pass from `loss`, a step a node, in order. It changes nothing: no `.grad` is
    written, and the graph stays, so that loss.backward() can still be called.

    loss: a tensor; `gradient` its cotangent as in `backward`. model: gives parameters and modules
    their names. Errors: those of `backward`.
    """
    dy = as_array(seed_gradient(loss, gradient))
    return _walk(loss, dy, Names(model, loss))


def _walk(loss: Any, dy: Array, names: Names) -> Iterator[Step]:
    sums: dict[Any, tuple[int, Array]] = {}  # leaf, or (node, output) -> how many contributions so far, and their sum
    queued: set[Node] = set()
    heap: list[tuple[int, Node]] = []

    def add(tensor: Any, g: Array) -> tuple[int, Array]:
        source = tensor.node
        if source is not None and source not in queued:
            queued.add(source)
            heapq.heappush(heap, (-source.age, source))
        key = tensor if source is None else (source, tensor.output)
        sums[key] = (sums[key][0] + 1, sums[key][1] + g) if key in sums else (1, g)
        return sums[key]

    add(loss, dy)
    number = 0
    while heap:
        number += 1
        node = heapq.heappop(heap)[1]
        if node.parents is None or any(cell[0] > node.age for cell in node.cells):
            node.complain()
        outputs = 1 if node.outputs is None else len(node.outputs)
        incoming = [sums.pop((node, i))[1] if (node, i) in sums else None for i in range(outputs)]
        arguments = _argument_names(node)
        inputs = [(name, getattr(x, "shape", None)) for name, x in zip(arguments, node.inputs, strict=True)]
        targets: Sequence[Any]
        gradients: Sequence[Any]
        if node.vjp is None:  # a checkpoint hands its gradients to what its function computes again
            targets = [t if t.requires_grad else None for t in node.op(node.inputs)]
            arguments, gradients = [f"output {i}" for i in range(outputs)], incoming
        else:
            targets, gradients = node.parents, fitted(node, apply_vjp(node, [*incoming], False))
        received = []
        for argument, tensor, g in zip(arguments, targets, gradients, strict=True):
            if tensor is not None and g is not None:
                received.append(Contribution(argument, tensor, _name(tensor, names), g, *add(tensor, g)))
        file, _, line = node.where().rpartition(":")
        code = linecache.getline(file, int(line)).strip()
        yield Step(number, node, node.op.name, node.where(), code, names.module(node), _formula(node), inputs, incoming, received)


def _formula(node: Node) -> str:
    if node.vjp is None:
        return "The function runs again, and the pass goes on inside."
    return inspect.cleandoc(node.op.body.__doc__ or "")


def _name(tensor: Any, names: Names) -> str:
    if tensor.node is None:
        return names.parameter(tensor) or "leaf"
    return f"{tensor.node.op.name} at {tensor.node.where()}"


def _argument_names(node: Node) -> list[str]:
    """The names of the array arguments in the op's signature; numbered in a sequence."""
    if node.vjp is None:
        return [f"input {i}" for i in range(len(node.inputs))]
    names = list(inspect.signature(node.op.body).parameters)
    return [f"{names[0]}[{i}]" for i in range(len(node.inputs))] if node.op.sequence else names[: len(node.inputs)]


@dataclass(frozen=True)
class Leaf:
    """A leaf's whole gradient, and the steps that made it: (step, what it gave) in order."""

    name: str
    tensor: Any
    gradient: Array
    parts: list[tuple[Step, Contribution]]


def leaves(walked: Iterable[Step]) -> list[Leaf]:
    """Why the gradient of each leaf is what it is: the sum of its parts, which is what `backward` puts into `.grad`."""
    parts: dict[Any, list[tuple[Step, Contribution]]] = {}
    for step in walked:
        for c in step.received:
            if c.tensor.node is None:
                parts.setdefault(c.tensor, []).append((step, c))
    return [Leaf(found[0][1].name, tensor, found[-1][1].total, found) for tensor, found in parts.items()]


def givers_of(step: Step, walked: Iterable[Step]) -> list[tuple[Step, Contribution]]:
    """Who gave the step its incoming gradient: (earlier step, what it gave), in order."""
    return [(s, c) for s in walked for c in s.received if c.tensor.node is step.node]
