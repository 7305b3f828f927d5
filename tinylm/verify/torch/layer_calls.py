"""Records the inputs and outputs of every module of a model while it runs, in tinylm and in PyTorch. Importing this file imports
PyTorch.

Every floating tensor that a module is given is passed on as an alias of its own, so that its gradient
is what this call of this module sends back, and nothing from a path around it.
"""

import contextlib
import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from tinylm import ops
from tinylm.engine.tensor import Tensor
from tinylm.nn import Module
from tinylm.verify.arguments import members


@dataclass
class Call:
    """One call of a module. `started` counts the calls as they begin; the list that holds them is in the order
    in which they end, so that the innermost comes first."""

    name: str
    started: int
    keywords: set[str]  # of the arguments given by name and not None
    inputs: list[Any]  # the tensors that require a gradient: masks do not
    outputs: list[Any]


Calls = list[Call]


class _Log:
    """The calls so far, whichever the library."""

    def __init__(self, is_floating: Callable[[Any], bool], alias: Callable[[Any], Any]) -> None:
        self.calls: Calls = []
        self.begun = 0
        self.times: Counter[str] = Counter()
        self.is_floating, self.alias = is_floating, alias

    def begin(self, name: str, args: Any, kwargs: dict[str, Any]) -> tuple[Call, Any, dict[str, Any]]:
        self.times[name] += 1
        label = name if self.times[name] == 1 else f"{name} (call {self.times[name]})"
        given = [x for x in (*args, *kwargs.values()) if self.is_floating(x) and x.requires_grad]
        aliases = {id(x): self.alias(x) for x in given}  # one given twice stays one
        call = Call(label, self.begun, {k for k, v in kwargs.items() if v is not None}, list(aliases.values()), [])
        self.begun += 1
        return call, tuple(aliases.get(id(x), x) for x in args), {k: aliases.get(id(v), v) for k, v in kwargs.items()}

    def end(self, call: Call, out: Any) -> None:
        call.outputs = [x for x in members(out) if self.is_floating(x)]
        self.calls.append(call)


@contextlib.contextmanager
def recorded(model: Module) -> Iterator[Calls]:
    """Records the calls of a tinylm model's modules within the context."""
    log = _Log(lambda x: isinstance(x, Tensor) and x.dtype.kind == "f", lambda x: ops.identity(x))
    named = {id(module): (name, module) for name, module in reversed(list(model.named_modules()))}

    def watched(name: str, forward: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            call, args, kwargs = log.begin(name, args, kwargs)
            out = forward(*args, **kwargs)
            log.end(call, out)
            return out

        return run

    for name, module in named.values():
        module.forward = watched(name, module.forward)  # type: ignore[method-assign] # shadows the class's
    try:
        yield log.calls
    finally:
        for _, module in named.values():
            del module.forward


@contextlib.contextmanager
def recorded_in_torch(model: Any) -> Iterator[Calls]:
    """Records the calls of a PyTorch model's modules within the context."""
    log = _Log(lambda x: isinstance(x, torch.Tensor) and x.is_floating_point(), lambda x: x.view_as(x))
    open_calls: list[Call] = []
    handles = []

    def before(name: str) -> Callable[..., Any]:
        def hook(module: Any, args: Any, kwargs: Any) -> Any:
            call, args, kwargs = log.begin(name, args, kwargs)
            open_calls.append(call)
            return args, kwargs

        return hook

    def after(module: Any, args: Any, out: Any) -> None:
        log.end(open_calls.pop(), out)

    for name, module in model.named_modules():
        handles += [module.register_forward_pre_hook(before(name), with_kwargs=True), module.register_forward_hook(after)]
    try:
        yield log.calls
    finally:
        for handle in handles:
            handle.remove()


def matched(ours: Calls, theirs: Calls, torch_model: Any) -> list[tuple[Call, Call]]:
    """Returns the pairs of calls that both made under one name with inputs of the same shapes, in the order of ours.

    A layer of ours that is told to do more than PyTorch's (add a residual, apply an activation) is
    another function, and left out.
    """
    others = {call.name: call for call in theirs}
    accepted = {name: set(inspect.signature(module.forward).parameters) for name, module in torch_model.named_modules()}
    pairs = []
    for call in ours:
        other = others.get(call.name)
        name = call.name.partition(" (call")[0]
        if name and other is not None and _shapes(call.inputs) == _shapes(other.inputs) and call.keywords <= accepted[name]:
            pairs.append((call, other))
    return pairs


def _shapes(tensors: list[Any]) -> list[tuple[int, ...]]:
    return [tuple(t.shape) for t in tensors]
