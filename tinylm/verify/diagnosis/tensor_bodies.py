"""Runs the body of an op on tensors although it calls NumPy, so that its small ops are recorded.

Nothing that exists is changed: the body and the functions of its file that it calls are copied, with a stand-in for NumPy that
hands calls with tensors to the op of the same name.
"""

import contextlib
import sys
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from tinylm.engine.arrays import array_module
from tinylm.engine.autograd import Node
from tinylm.engine.tensor import Tensor
from tinylm.verify.jacobians import flatten


def by_small_ops(node: Node) -> Tensor | None:
    """Returns the outputs of an op's node as one vector, from its body run on tensors; None if it cannot be run on them."""
    op, (extra, settings) = node.op, node.settings
    inputs = [Tensor(a) if not isinstance(a, Tensor) and getattr(getattr(a, "dtype", None), "kind", "") == "f" else a for a in node.inputs]
    args = [list(inputs)] if op.sequence else inputs
    for body in (op.body, _on_tensors(op.body)):
        with contextlib.suppress(Exception):  # a body may do what tensors cannot
            value: Any = op.composed(*args, *extra, **settings) if op.composed else body(*args, *extra, **settings)[0]
            outputs = value if isinstance(value, tuple) else (value,)
            found = [t for t in outputs if isinstance(t, Tensor)]
            if found:
                return flatten(found)
    return None


class _TensorNumPy:
    """Stands for NumPy within a body: its functions, and those of tensors for arguments that are tensors."""

    def __getattr__(self, name: str) -> Any:
        plain = getattr(np, name)
        if not callable(plain) or isinstance(plain, type):
            return plain

        def either(*args: Any, **settings: Any) -> Any:
            given = [x for a in (*args, *settings.values()) for x in (a if isinstance(a, list | tuple) else [a])]
            tensor = next((x for x in given if isinstance(x, Tensor)), None)
            if tensor is None:
                return plain(*args, **settings)
            out, caller = getattr(array_module(tensor), name)(*args, **settings), sys._getframe(1)
            if isinstance(out, Tensor) and out.node is not None:
                out.node.code, out.node.offset = caller.f_code, caller.f_lasti  # so that the body's line is named, not this one
            return out

        return either


def _on_tensors(body: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a copy of a body, and of the functions of its file that it calls, for which the stand-in is NumPy."""
    if not isinstance(body, FunctionType):
        return body
    file, names = body.__globals__, dict[str, Any]()

    def copied(value: Any) -> Any:
        if isinstance(value, ModuleType):
            return _TensorNumPy() if value is np else value
        if isinstance(value, FunctionType) and value.__globals__ is file:
            copy = FunctionType(value.__code__, names, value.__name__, value.__defaults__, value.__closure__)
            copy.__kwdefaults__ = value.__kwdefaults__
            return copy
        return value

    for name, value in file.items():
        names[name] = copied(value)
    made: Callable[..., Any] = copied(body)
    return made
