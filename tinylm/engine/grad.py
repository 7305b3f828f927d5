"""`grad`: gradients of chosen tensors, and the plan of the walk that computes only what they need."""

from collections.abc import Sequence
from typing import Any

from tinylm.engine.arrays import constant
from tinylm.engine.autograd import Node, nodes, set_recording, walk
from tinylm.engine.seeds import seed_gradient
from tinylm.errors import AutogradError


class _Plan:
    """Which nodes lead to a wanted tensor, and the gradients found so far."""

    def __init__(self, y: Any, wanted: Sequence[Any]) -> None:
        self.found: dict[tuple[int, int], Any] = {}
        self.leaves = {id(x) for x in wanted if x.node is None}
        self.stops: dict[Node, set[int]] = {}
        for x in wanted:
            if x.node is not None:
                self.stops.setdefault(x.node, set()).add(x.output)
        self.below: dict[Node, bool] = {}  # does something that the node consumed lead to a wanted tensor?
        for node in nodes(y):
            self.below[node] = (
                node.parents is None  # a freed node: the walk reports it
                or node.vjp is None  # a recomputed function: what it captured is known only when it runs
                or any(id(t) in self.leaves or (t.node is not None and self.reaches(t.node)) for t in node.parents if t is not None)
            )

    def reaches(self, node: Node) -> bool:
        """Returns True if the walk must visit the node (nodes made during the walk always are)."""
        return node in self.stops or self.below.get(node, True)

    def take(self, node: Node, slots: list[Any]) -> bool:
        """Keeps a wanted gradient. Returns True if the walk need not go on below the node."""
        for i in self.stops.get(node, ()):
            if slots[i] is not None:
                self.found[node.age, i] = slots[i]
        return not self.below.get(node, True)

    def leaf(self, tensor: Any, g: Any) -> None:
        """Adds a gradient that arrived at a leaf, if the leaf is wanted."""
        if id(tensor) in self.leaves:
            key = (id(tensor), -1)
            self.found[key] = self.found[key] + g if key in self.found else g

    def result(self, x: Any) -> Any:
        """Returns the gradient of a wanted tensor; None if none arrived."""
        return self.found.get((id(x), -1) if x.node is None else (x.node.age, x.output))


def grad(y: Any, xs: Any, gradient: Any = None, *, create_graph: bool = False, retain_graph: bool | None = None) -> Any:
    """Returns dy/dx for each x, as tensors in a list (one tensor if xs is one); writes no `.grad`.

    xs: leaves or intermediate tensors; one that y does not depend on gives None. gradient: the cotangent of y, as for
    `backward`. With `create_graph` the results carry a graph of their own, so they can be differentiated again;
    `retain_graph` defaults to it. Raises AutogradError if an x does not require a gradient, and what `backward` raises.

    >>> x = tinylm.Tensor(np.array(2.0), requires_grad=True)
    >>> slope = tinylm.grad(x**3, x, create_graph=True)  # 3 x²
    >>> slope.item(), tinylm.grad(slope, x).item()  # and 6 x
    (12.0, 12.0)
    """
    wanted = list(xs) if isinstance(xs, (list, tuple)) else [xs]
    for i, x in enumerate(wanted):
        if not x.requires_grad:
            raise AutogradError(f"grad: argument {i} of shape {x.shape} does not require a gradient")
    dy = seed_gradient(y, gradient)
    dy = y.as_tensor(dy) if create_graph else constant(dy)
    plan = _Plan(y, wanted)
    with set_recording(create_graph):
        retain_graph = create_graph if retain_graph is None else retain_graph
        for _ in walk(y, dy, plan.leaf, create_graph=create_graph, retain_graph=retain_graph, plan=plan):
            pass  # the generator runs because it is iterated; not observed, it yields nothing
    found = [plan.result(x) for x in wanted]
    results = [None if g is None else y.as_tensor(g) for g in found]
    return results if isinstance(xs, (list, tuple)) else results[0]
