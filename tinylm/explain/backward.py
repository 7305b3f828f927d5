"""The backward pass as it happens: what each node receives, and what it passes on to which tensors.

It observes the walk of `tinylm.engine.autograd`, so the gradients are those of `backward`, bit for bit.
"""

import inspect
import linecache
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Group
from rich.panel import Panel
from rich.text import Text

from tinylm.engine.arrays import Array
from tinylm.engine.autograd import Node, Visit, seed_gradient, walk
from tinylm.engine.tensor import as_array
from tinylm.explain.array_text import described, shape_text
from tinylm.explain.naming import Names
from tinylm.nn import Module


@dataclass(frozen=True)
class Contribution:
    """What one argument of an op receives.

    argument: its name in the op's signature.  tensor: the tensor that was passed.  name: the
    parameter's path, or 'leaf', or the op that made the tensor and its line.  gradient: what this step adds.  count:
    1 for the first contribution to this tensor, 2 for the second.  total: the sum so far, this one included.
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

    number: 1 is the op that made the loss.  op: its name.  where: 'file:line' of the call.  code: the
    text of that line.  module: the path of the module it belongs to, '' if that is unknown.  formula:
    the op's docstring.  inputs: (name, shape) of each argument; the shape of a number or a missing argument is
    None.  incoming: the gradient of each output, complete by now; None if none arrived.  received: what
    each argument that requires a gradient receives.
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

    def __rich__(self) -> Panel:
        """Returns all about the step, for rich.print."""
        lines: list[Any] = [Text(f"{self.where}\n    {self.code}", style="dim")]
        lines.append(Text("inputs    " + ",  ".join(f"{name} {shape_text(shape)}" for name, shape in self.inputs)))
        for i, g in enumerate(self.incoming):
            which = f" of output {i}" if len(self.incoming) > 1 else ""
            lines.append(Text(f"incoming{which}  {described(g)}", style="bold"))
        lines += [Text(), Text(self.formula, style="italic"), Text()]
        for c in self.received:
            lines.append(Text(f"{c.argument} receives {described(c.gradient)}  → {c.name}", style="bold"))
            if c.count > 1:
                lines.append(Text(f"    contribution {c.count}; with those before it {described(c.total)}"))
        title = f"{self.number}  {self.op}" + (f"  in {self.module}" if self.module else "")
        return Panel(Group(*lines), title=Text(title), title_align="left")


def steps(loss: Any, gradient: Any = None, *, model: Module | None = None) -> Iterator[Step]:
    """Returns the steps of the backward pass from `loss`, one per node, in order. Nothing changes: no `.grad` is
    written, and the graph stays, so that loss.backward() can still be called.

    loss: a tensor. gradient: its cotangent as for `backward`. model: gives parameters and modules
    their names. Raises what `backward` raises.
    """
    visits = walk(loss, as_array(seed_gradient(loss, gradient)), lambda tensor, g: None, retain_graph=True, observed=True)
    return _described(visits, Names(model, loss))


def _described(visits: Iterator[Visit], names: Names) -> Iterator[Step]:
    sums: dict[Any, tuple[int, Array]] = {}  # leaf, or (node, output) -> how many contributions so far, and their sum
    for number, (node, incoming, targets, gradients) in enumerate(visits, 1):
        for i in range(len(incoming)):
            sums.pop((node, i), None)  # complete, and now `incoming`
        arguments = _argument_names(node)
        inputs = [(name, getattr(x, "shape", None)) for name, x in zip(arguments, node.inputs, strict=True)]
        if node.vjp is None:
            arguments = [f"output {i}" for i in range(len(incoming))]
        received = []
        for argument, tensor, g in zip(arguments, targets, gradients, strict=True):
            if tensor is not None and g is not None:
                key = tensor if tensor.node is None else (tensor.node, tensor.output)
                sums[key] = (sums[key][0] + 1, sums[key][1] + g) if key in sums else (1, g)
                made = tensor.node
                name = names.parameter(tensor) or "leaf" if made is None else f"{made.op.name} at {made.where()}"
                received.append(Contribution(argument, tensor, name, g, *sums[key]))
        file, _, line = node.where().rpartition(":")
        code = linecache.getline(file, int(line)).strip()
        again = "The function runs again, and the pass goes on inside."
        formula = again if node.vjp is None else inspect.cleandoc(node.op.body.__doc__ or "")
        yield Step(number, node, node.op.name, node.where(), code, names.module(node), formula, inputs, incoming, received)


def _argument_names(node: Node) -> list[str]:
    """Returns the names of the array arguments in the op's signature, numbered in a sequence."""
    if node.vjp is None:
        return [f"input {i}" for i in range(len(node.inputs))]
    names = list(inspect.signature(node.op.body).parameters)
    return [f"{names[0]}[{i}]" for i in range(len(node.inputs))] if node.op.sequence else names[: len(node.inputs)]


@dataclass(frozen=True)
class Leaf:
    """The complete gradient of a leaf, and its parts in order: (step, what the step gave)."""

    name: str
    tensor: Any
    gradient: Array
    parts: list[tuple[Step, Contribution]]


def leaves(walked: Iterable[Step]) -> list[Leaf]:
    """Returns the gradient of each leaf with its parts, whose sum is what `backward` puts into `.grad`."""
    parts: dict[Any, list[tuple[Step, Contribution]]] = {}
    for step in walked:
        for c in step.received:
            if c.tensor.node is None:
                parts.setdefault(c.tensor, []).append((step, c))
    return [Leaf(found[0][1].name, tensor, found[-1][1].total, found) for tensor, found in parts.items()]


def givers_of(step: Step, walked: Iterable[Step]) -> list[tuple[Step, Contribution]]:
    """Returns where the step's incoming gradient comes from: (earlier step, what it gave), in order."""
    return [(s, c) for s in walked for c in s.received if c.tensor.node is step.node]
