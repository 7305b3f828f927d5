"""Names for what is on the tape: parameters by their paths, nodes by the module they belong to."""

import itertools
import re
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from tinylm.engine.autograd import Node, nodes
from tinylm.engine.tensor import Tensor
from tinylm.errors import AutogradError
from tinylm.nn import Module


def recorded_nodes(output: Any) -> list[Node]:
    """Returns `nodes(output)`. Raises AutogradError if nothing was recorded, or the graph was freed."""
    found = nodes(output)
    if not found:
        raise AutogradError("nothing was recorded for this tensor: compute it outside of no_grad, from what requires gradients")
    for node in found:
        if node.parents is None:
            node.raise_stale()
    return found


class Names:
    """The names that a model gives to the graph of `output`. Without a model there are none.

    A node that takes a parameter belongs to the parameter's module. One that takes none belongs to the
    module that the nodes before and after it have in common: between attn.c_attn and attn.c_proj to attn.
    """

    def __init__(self, model: Module | None, output: Any, variables: dict[int, str] | None = None) -> None:
        self._variables = variables or {}
        self._modules = {} if model is None else dict(model.named_modules())
        self._paths: dict[int, list[str]] = {}
        self._places: dict[Node, str] = {}
        if model is None or output.node is None:
            return
        for path, tensor in model.named_state():
            self._paths.setdefault(id(tensor), []).append(path)
        recorded = recorded_nodes(output)
        owners = [self._owner(node) for node in recorded]
        after: list[str] = []  # the nearest owner at or after each node
        for owner in reversed(owners):
            after.append(owner if owner is not None else after[-1] if after else "")
        before = ""
        for node, owner, later in zip(recorded, owners, reversed(after), strict=True):
            before = before if owner is None else owner
            self._places[node] = _common(before, later)

    def parameter(self, tensor: Any) -> str:
        """Returns the path of a parameter, 'a = b' if it has two; '' if the model has no such parameter."""
        return " = ".join(self._paths.get(id(tensor), ()))

    def leaf(self, tensor: Any, argument: str, node: Node) -> str:
        """Returns the path of a parameter, or the name of the caller's variable, or where the leaf is used: 'x of exp at
        mine.py:7'. With a model, what is no parameter is called an input."""
        known = self.parameter(tensor)
        if known:
            return known
        variable = self._variables.get(id(tensor), "")
        kind = "input " if self._modules else ""
        return kind + (variable or f"{argument} of {node.op.name} at {short_place(node.where())}")

    def module(self, node: Node) -> str:
        """Returns the path of the module that the node belongs to, '' for the model itself or an unknown module."""
        place = self._places.get(node)
        return (self._owner(node) or "") if place is None else place  # a recomputed function makes nodes during the walk

    def _owner(self, node: Node) -> str | None:
        """Returns the module of the first parameter among the node's inputs. Of the modules that share a tied
        parameter it is the one whose class has the method that made the node."""
        maker = node.code.co_qualname.partition(".")[0]
        for x in node.inputs:
            owners = [path.rpartition(".")[0] for path in self._paths.get(id(x), ())]
            if owners:
                makers = (path for path in owners if maker in (kind.__name__ for kind in type(self._modules[path]).__mro__))
                return next(makers, owners[0])
        return None


def _common(a: str, b: str) -> str:
    """Returns the path that both begin with."""
    pairs = zip(a.split("."), b.split("."), strict=False)
    return ".".join(x for x, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def callers_variables() -> dict[int, str]:
    """Returns the names of the tensors that the code which called tinylm has in variables, by `id`. The innermost name counts."""
    found: dict[int, str] = {}
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if str(frame.f_globals.get("__name__")).partition(".")[0] != "tinylm":
            for name, value in frame.f_locals.items():
                if isinstance(value, Tensor) and not name.startswith("_"):
                    found.setdefault(id(value), name)
        frame = frame.f_back
    return found


def short_place(where: str) -> str:
    """Returns a `Node.where` without the folders of this machine: 'tinylm/nn/layers.py:53', and of other code the file's name."""
    inside = where.replace("\\", "/").replace(Path(__file__).parents[1].as_posix(), "tinylm")
    return ", which led to ".join(
        part if part.startswith("tinylm/") else re.sub(r".*/", "", part) for part in inside.split(", which led to ")
    )
