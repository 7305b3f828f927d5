"""Looking at a tape without walking it."""

from tinylm.engine.autograd import Node
from tinylm.engine.tensor import Tensor


def nodes_below(y: Tensor) -> list[Node]:
    """The nodes that made y, the oldest first, without the one of y itself."""
    found: dict[int, Node] = {}
    stack = [] if y.node is None else [y.node]
    while stack:
        node = stack.pop()
        if node.age not in found:
            found[node.age] = node
            stack.extend(t.node for t in node.parents if t is not None and t.node is not None)
    return [found[age] for age in sorted(found)][:-1]
