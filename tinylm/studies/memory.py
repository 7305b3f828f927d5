"""The memory that a training step needs, computed from the shapes of the arrays on a recorded tape."""

import contextlib
import ctypes
import gc
import types
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinylm.engine.autograd import Node, nodes
from tinylm.engine.stored_weights import StoredWeights
from tinylm.engine.tensor import Tensor
from tinylm.nn import Module
from tinylm.optim import Optimizer


@dataclass(frozen=True)
class StepMemory:
    """In bytes.  activations: what the tape keeps for the backward pass.  backward: what the backward pass needs in addition,
    at its peak."""

    activations: int
    backward: int


def step_memory(loss: Tensor, model: Module) -> StepMemory:
    """Returns what the graph of `loss` needs in addition to the model. Workspace that kernels free within one call is not known."""
    made = nodes(loss)
    known = {id(_owner(tensor.data)) for _, tensor in model.named_state()}
    held = [{k: n for k, n in _held(node).items() if k not in known} for node in made]
    sizes = {k: n for each in held for k, n in each.items()}
    activations = sum(sizes.values())
    return StepMemory(activations, _highest_backward(loss, made, held, sizes) - activations)


def _highest_backward(loss: Tensor, made: list[Node], held: list[dict[int, int]], sizes: dict[int, int]) -> int:
    """Returns the peak of the backward pass, in bytes: a node is freed as soon as its gradients are computed; those of its
    parents are kept until they are used."""
    users = Counter(k for each in held for k in each)
    alive = highest = sum(sizes.values())
    pending: dict[tuple[int, int], int] = {(id(loss.node), loss.output): loss.data.nbytes}
    for node, own in zip(reversed(made), reversed(held), strict=True):
        parents = [p for p in node.parents if p is not None]
        highest = max(highest, alive + sum(pending.values()) + sum(p.data.nbytes for p in parents))
        pending = {key: n for key, n in pending.items() if key[0] != id(node)}
        pending |= {(id(p.node), p.output): p.data.nbytes for p in parents if p.node is not None}
        users.subtract(own.keys())
        alive -= sum(n for k, n in own.items() if not users[k])
    return highest


def _held(node: Node) -> dict[int, int]:
    """Returns the bytes, by owner, of the arrays that a node keeps alive: its inputs, and what its vjp closes over."""
    found: dict[int, int] = {}
    seen: set[int] = set()
    stack = [*node.inputs, node.vjp]
    while stack:
        x = stack.pop()
        if id(x) in seen or isinstance(x, (type, types.ModuleType, types.CodeType, Node, Module, str, bytes, int, float)):
            continue
        seen.add(id(x))
        if isinstance(x, Tensor):
            stack.append(x.data)
        elif _is_array(x):
            owner = _owner(x)
            found[id(owner)] = owner.nbytes
        elif isinstance(x, types.FunctionType):
            stack.extend(x.__closure__ or ())  # not its globals, which are the whole module
        else:
            stack.extend(gc.get_referents(x))
    return found


def _is_array(x: Any) -> bool:
    # stored weights are asked for nothing that they would have to decode all their numbers for
    return isinstance(x, np.ndarray | StoredWeights) or (hasattr(x, "nbytes") and hasattr(x, "strides"))


def _owner(array: Any) -> Any:
    """Returns the array whose memory this one is a view of."""
    while _is_array(getattr(array, "base", None)):
        array = array.base
    return array


@dataclass(frozen=True)
class HeldMemory:
    """In bytes: what stays from step to step."""

    parameters: int
    gradients: int
    optimizer: int


def held_memory(model: Module, optimizer: Optimizer) -> HeldMemory:
    """Returns the bytes of the parameters, the gradients of those that are trained, and the optimiser's state. Buffers count as
    parameters."""
    gradients = sum(p.data.nbytes for p in model.parameters() if p.requires_grad)
    state = sum(a.nbytes for name, a in optimizer.state_dict().items() if not name.startswith(("step.", "lr.")))
    own = {id(t): t.data.nbytes for _, t in model.named_state()}
    return HeldMemory(sum(own.values()), gradients, state)


def give_back_freed() -> None:
    """Gives memory that was freed and that the C library keeps for later back to the system, so that what is resident is in use."""
    with contextlib.suppress(OSError, AttributeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)


def resident_bytes(field: str = "VmRSS") -> int:
    """Returns the memory of this process: now, or with "VmHWM" at its peak. On systems other than Linux always the peak."""
    try:
        with open("/proc/self/status", encoding="utf-8") as status:
            return next(int(line.split()[1]) for line in status if line.startswith(f"{field}:")) * 1024
    except OSError:  # macOS counts in bytes
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
