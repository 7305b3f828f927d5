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
from rich.table import Table
from rich.text import Text

from tinylm.engine.arrays import Array
from tinylm.engine.autograd import Node, Visit, walk
from tinylm.engine.seeds import seed_gradient
from tinylm.engine.tensor import Tensor, as_array
from tinylm.explain.array_text import contents, described, shape_text, table_of_arrays
from tinylm.explain.naming import Names, callers_variables, short_place
from tinylm.nn import Module


@dataclass(frozen=True)
class Contribution:
    """What one argument of an op receives.

    argument: its name in the op's signature.  tensor: the tensor that was passed.  name: of a leaf the
    parameter's path, the variable's name, or where it is used; else the op that made the tensor and its line.  gradient: what
    this step adds.  count: 1 for the first contribution to this tensor, 2 for the second.  total: the sum so far, this one
    included.
    """

    argument: str
    tensor: Any
    name: str
    gradient: Array
    count: int
    total: Array

    def __repr__(self) -> str:
        return f"<{self.argument} receives {described(self.gradient)}, to {self.name}>"


@dataclass(frozen=True)
class Step:
    """One node of the backward pass.

    number: 1 is the op that made the loss.  op: its name.  where: 'file:line' of the call.  code: the
    text of that line.  module: the path of the module it belongs to, '' if that is unknown.  formula:
    the op's docstring.  inputs: (name, shape) of each argument; the shape of a number or a missing argument is
    None.  values: the array or number of each argument, None if it is missing.  outputs: the array of each output, None if it
    is unknown, since nothing used it.  incoming: the gradient of each output, complete by now; None if none arrived.
    received: what each argument that requires a gradient receives.
    """

    number: int
    node: Node
    op: str
    where: str
    code: str
    module: str
    formula: str
    inputs: list[tuple[str, tuple[int, ...] | None]]
    values: list[Any]
    outputs: list[Array | None]
    incoming: list[Array | None]
    received: list[Contribution]

    def rows(self) -> list[tuple[str, Any, Array | None, Contribution | None]]:
        """Returns values beside gradients: (name, value, gradient, what the argument receives in this step) of each output,
        then of each argument."""
        several = len(self.incoming) > 1
        both = zip(self.outputs, self.incoming, strict=True)
        found: list[Any] = [(f"output {i}" if several else "output", value, g, None) for i, (value, g) in enumerate(both)]
        given = {c.argument: c for c in self.received}
        for (name, _), value in zip(self.inputs, self.values, strict=True):
            c = given.pop(name, None)
            found.append((name, value, None if c is None else c.gradient, c))
        return found + [(f"{c.argument} again", None, c.gradient, c) for c in given.values()]  # a recomputed function runs again

    def __rich__(self) -> Panel:
        """Returns all about the step, for rich.print."""
        lines: list[Any] = [Text(f"{self.where}\n    {self.code}", style="dim"), Text()]
        table = Table("", "shape", "value", "gradient", "goes to", box=None, padding=(0, 2, 0, 0))
        for name, value, g, c in self.rows():
            shape = shape_text(getattr(value if value is not None else g, "shape", None))
            gradient = "" if c is None and not name.startswith("output") else "none, counted as zeros" if g is None else contents(g)
            to = (
                "" if c is None else c.name if c.tensor.node is None else f"{c.tensor.node.op.name} at {short_place(c.tensor.node.where())}"
            )
            if c is not None and c.count > 1:
                to += f"\n(contribution {c.count}; with those before it: {described(c.total)})"
            table.add_row(Text(name, style="bold"), *map(Text, (shape, contents(value), gradient, to)))
        lines += [table, Text(), Text(self.formula, style="italic")]
        title = f"{self.number}  {self.op}" + (f"  in {self.module}" if self.module else "")
        return Panel(Group(*lines), title=Text(title), title_align="left")

    def __repr__(self) -> str:
        place = f" in {self.module}" if self.module else ""
        return f"<step {self.number}: {self.op}{place}, incoming {', '.join(map(described, self.incoming))}>"

    def _repr_html_(self) -> str:
        """Returns what a notebook shows: values beside gradients."""
        title = f"{self.number} {self.op}" + (f" in {self.module}" if self.module else "")
        return table_of_arrays(
            f"{title}: {self.code}", ["value", "gradient"], [row[:3] for row in self.rows() if row[1] is not None or row[2] is not None]
        )


def steps(loss: Any, gradient: Any = None, *, model: Module | None = None) -> Iterator[Step]:
    """Returns the steps of the backward pass from `loss`, one per node, in order. Nothing changes: no `.grad` is
    written, and the graph stays, so that loss.backward() can still be called.

    loss: a tensor. gradient: its cotangent as for `backward`. model: gives parameters and modules
    their names. Raises what `backward` raises.
    """
    names = Names(model, loss, callers_variables())
    visits = walk(loss, as_array(seed_gradient(loss, gradient)), lambda tensor, g: None, retain_graph=True, observed=True)
    return _described(visits, names, {(loss.node, loss.output): loss.data})


def _described(visits: Iterator[Visit], names: Names, made: dict[tuple[Node, int], Array]) -> Iterator[Step]:
    """made: the arrays of outputs that are still to be visited, by (node, output)."""
    sums: dict[Any, tuple[int, Array]] = {}  # leaf, or (node, output) -> how many contributions so far, and their sum
    for number, (node, incoming, targets, gradients) in enumerate(visits, 1):
        outputs = [made.pop((node, i), None) for i in range(len(incoming))]
        for i in range(len(incoming)):
            sums.pop((node, i), None)  # complete, and now `incoming`
        arguments = _argument_names(node)
        inputs = [(name, getattr(x, "shape", None)) for name, x in zip(arguments, node.inputs, strict=True)]
        values = [x.data if isinstance(x, Tensor) else x for x in node.inputs]
        if node.vjp is None:
            arguments = [f"output {i}" for i in range(len(incoming))]
        received = []
        for argument, tensor, g in zip(arguments, targets, gradients, strict=True):
            if tensor is not None and g is not None:
                key = tensor if tensor.node is None else (tensor.node, tensor.output)
                sums[key] = (sums[key][0] + 1, sums[key][1] + g) if key in sums else (1, g)
                if tensor.node is None:
                    name = names.leaf(tensor, argument, node)
                else:
                    name = f"{tensor.node.op.name} at {tensor.node.where()}"
                    made[tensor.node, tensor.output] = tensor.data
                received.append(Contribution(argument, tensor, name, g, *sums[key]))
        file, _, line = node.where().rpartition(":")
        code = linecache.getline(file, int(line)).strip()
        again = "The function runs again, and the pass goes on inside."
        formula = again if node.vjp is None else inspect.cleandoc(node.op.body.__doc__ or "").partition("\n>>>")[0].rstrip()
        place = names.module(node)
        yield Step(number, node, node.op.name, node.where(), code, place, formula, inputs, values, outputs, incoming, received)


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

    def __repr__(self) -> str:
        return f"<leaf {self.name}: gradient {described(self.gradient)}, the sum of {len(self.parts)} parts>"

    def _repr_html_(self) -> str:
        """Returns what a notebook shows: the value beside the gradient, and its parts."""
        parts = [(f"from step {step.number}, {step.op}, its {c.argument}", None, c.gradient) for step, c in self.parts]
        whole = (self.name, self.tensor.data, self.gradient)
        return table_of_arrays(f"Leaf {self.name}", ["value", "gradient"], [whole, *(parts[:8] if len(parts) > 1 else [])])


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
