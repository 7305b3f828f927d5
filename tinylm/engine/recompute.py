"""`recompute`: less memory for more time; the backward pass computes again what the forward pass did not keep."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

from tinylm.engine.autograd import Node, mode, no_grad, set_recording
from tinylm.engine.products import products_mode, rounding
from tinylm.engine.random_keys import Generator, current, drawing_from


class Recompute:
    """The op of a recomputed function's node: runs the function again, and the walk goes on inside."""

    name = "recompute"

    def __init__(self, fn: Callable[..., Any], generator: Generator) -> None:
        self.fn = fn
        self.generator, self.state = generator, generator.state
        self.rounded = products_mode.rounded

    def __call__(self, inputs: Sequence[Any]) -> tuple[Any, ...]:
        now, self.generator.state = self.generator.state, self.state  # so that dropout draws the same masks
        try:
            with set_recording(True), drawing_from(self.generator), rounding(self.rounded):
                out = self.fn(*inputs)
        finally:
            self.generator.state = now
        return out if isinstance(out, tuple) else (out,)


def recompute(fn: Callable[..., Any], *inputs: Any) -> Any:
    """Returns fn(*inputs) and keeps only the inputs: the backward pass runs fn again to get the rest.

    fn takes and returns tensors (one or a tuple) and may use captured parameters, which get
    their gradients too. Dropout repeats its masks. Chen et al. 2016, arXiv:1604.06174.
    """
    if not mode.recording:
        return fn(*inputs)
    again = Recompute(fn, current.generator)
    with no_grad():
        out = fn(*inputs)
    outputs = [o.detach() for o in (out if isinstance(out, tuple) else (out,))]
    parents = [x if getattr(x, "requires_grad", False) else None for x in inputs]
    cells = [x.version_cell for x in inputs if hasattr(x, "version_cell")]
    caller = sys._getframe(1)  # messages name the line that called this function
    node = Node(again, inputs, ((), {}), parents, None, cells, caller.f_code, caller.f_lasti)
    if len(outputs) > 1:
        node.outputs = [None] * len(outputs)
    for i, o in enumerate(outputs):
        o.node, o.output, o.requires_grad = node, i, o.dtype.kind == "f"
    return tuple(outputs) if isinstance(out, tuple) else outputs[0]
