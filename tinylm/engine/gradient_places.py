"""Where gradients go: into a leaf's buffer, and on a GPU from the vjp itself, without a launch to copy or to add them.

Before `backward` calls a vjp it offers what the arguments' gradients would be copied or added to. A kernel's binding takes an offer by the
array that it was given as the argument; what nobody takes is copied and added as always.
"""

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from tinylm.engine.arrays import Array, array_module


class _Offers(threading.local):
    def __init__(self) -> None:
        self.buffers: dict[int, Array] = {}  # by the id of a leaf's array
        self.sums: dict[int, tuple[list[Any], int]] = {}  # by the id of an intermediate result's array: where its sum is


_offers = _Offers()


def offer(tensors: Sequence[Any], pending: Mapping[Any, list[Any]]) -> None:
    """Offers, for a vjp whose arguments are these tensors (None: no gradient), the buffers of leaves without a gradient, and the
    sums so far of intermediate results, pending[node][output]. Of two arguments with one array neither is offered."""
    buffers, sums, seen = _offers.buffers, _offers.sums, set()
    buffers.clear()
    sums.clear()
    for tensor in tensors:
        if tensor is None:
            continue
        key = id(tensor.data)
        if key in seen:
            buffers.pop(key, None)
            sums.pop(key, None)
            continue
        seen.add(key)
        if tensor.node is not None:
            slots = pending.get(tensor.node)
            if slots is not None and slots[tensor.output] is not None:
                sums[key] = slots, tensor.output
        elif tensor.grad is None and tensor.grad_buffer is not None:
            buffers[key] = tensor.grad_buffer


def buffer_for(array: Array) -> Array | None:
    """Returns the contiguous array in which the gradient of an argument is to be made, and which the vjp then returns; None if it may
    be anywhere. Called once for each argument, within the vjp."""
    return _offers.buffers.pop(id(array), None)


def sum_so_far(array: Array) -> Array | None:
    """Returns the sum of the gradients of an argument that have arrived, to be read; the vjp returns a new array, with its own added.
    None if none has arrived. Called once for each argument, within the vjp."""
    found = _offers.sums.pop(id(array), None)
    if found is None:
        return None
    slots, i = found
    total, slots[i] = slots[i], None
    return total


def withdraw() -> None:
    """Takes all offers back."""
    _offers.buffers.clear()
    _offers.sums.clear()


def accumulate(tensor: Any, g: Array) -> None:
    """Adds g to tensor.grad; in place only if it is the buffer made for this tensor's gradient."""
    if not tensor.requires_grad:
        return
    buffer = tensor.grad_buffer
    if tensor.grad is None:
        if buffer is None:
            tensor.grad = array_module(g).array(g, order="C")  # a copy: a vjp may return one array twice, or a view
        else:
            if g is not buffer:
                buffer[...] = g
            tensor.grad = buffer
    elif tensor.grad is buffer:
        array_module(buffer).add(buffer, g, out=buffer)
    else:
        tensor.grad = tensor.grad + g
