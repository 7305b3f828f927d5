"""Marks truncated backpropagation through time."""

from typing import Any

import numpy as np

from tinylm import ops
from tinylm.engine.autograd import nodes
from tinylm.engine.tensor import Tensor
from tinylm.errors import AutogradError
from tinylm.learn.comparing import compare
from tinylm.learn.exercise import Mistake
from tinylm.learn.op_marking import normal
from tinylm.learn.work import Work

HINTS = (
    "for start in range(0, len(x), size): the block is x[start:start + size].",
    "Within a block: loss, state = step(x[t], state), and total = total + loss. After it: total.backward(), then state = state.detach().",
)
THEN = "tinylm/models/rnn_lm.py and tinylm/train/tasks/language_modeling.py: the state that is carried between batches."
MISTAKES = (
    Mistake.of("the state is not cut off", "        state = state.detach()\n", "", says="detach"),
    Mistake.of(
        "the graph is kept instead", "total.backward()\n        state = state.detach()", "total.backward(retain_graph=True)", says="grows"
    ),
    Mistake.of("every block starts afresh", "state = state.detach()", "state = state.detach() * 0", says="starts from zero"),
    Mistake.of(
        "cut at every step",
        "loss, state = step(x[t], state)",
        "loss, state = step(x[t], state.detach())",
        says="at every step",
    ),
    Mistake.of(
        "backward after every step", "            total = total + loss\n", "            total.backward()\n", says="once, on the sum"
    ),
    Mistake.of("the last, shorter block is lost", "range(0, len(x), size)", "range(0, len(x) - size + 1, size)"),
    Mistake.of("no backward", "        total.backward()\n", "", says="backward() must be called"),
    Mistake.of("the loss of the last step alone", "total = total + loss", "total = loss"),
)


class _Net:
    """h = tanh(w x + u h), with the loss (h - 0.5)² at each step."""

    def __init__(self) -> None:
        self.w, self.u = Tensor(normal(2, 2), requires_grad=True), Tensor(normal(2, 2, seed=1), requires_grad=True)
        self.sizes: list[int] = []

    def __call__(self, x, h):
        h = ops.tanh(self.w @ x + self.u @ h)
        self.sizes.append(len(nodes(h)))
        return ((h - 0.5) ** 2).sum(), h


def _right(x: np.ndarray, size: int, cut: int, carry: float = 1.0) -> tuple[list[float], Any]:
    """Returns the losses by block and the gradient of u; the state is cut off every `cut` steps, and times `carry` after a block."""
    net, h, losses = _Net(), Tensor(np.zeros(2)), []
    for start in range(0, len(x), size):
        total = Tensor(np.zeros(()))
        for t in range(start, min(start + size, len(x))):
            loss, h = net(x[t], h)
            total = total + loss
            h = h.detach() if (t - start) % cut == cut - 1 else h
        total.backward()
        losses.append(total.item())
        h = h.detach() * carry
    return losses, net.u.grad


def mark(work: Work) -> None:
    truncated, x, size = work.get("truncated"), normal(8, 2), 3
    work.begin("the losses of the blocks")
    net = _Net()
    try:
        losses = truncated(net, x, Tensor(np.zeros(2)), size)
    except AutogradError as error:
        if "freed" in str(error):
            if len(net.sizes) <= size:
                cause = "backward is called more than once in a block: once, on the sum of its losses"
                raise work.wrong("backward runs into a part of the tape that is used up", cause, truncated) from error
            cause = "the second block's backward goes on into the first one: state = state.detach() after each block"
            raise work.wrong("backward runs into a part of the tape that is used up", cause, truncated) from error
        raise
    right, gradient = _right(x, size, size)
    afresh, _ = _right(x, size, size, 0.0)
    work.expect(isinstance(losses, list), f"it returns a {type(losses).__name__}: expected a list of numbers", "", truncated)
    work.expect(len(losses) == 3, f"{len(losses)} losses are returned: expected 3, of blocks of 3, 3 and 2 steps", "", truncated)
    compare(
        work,
        "the losses",
        np.array(losses),
        right,
        causes={"the state starts from zero in every block: carry it on": afresh},
        where=truncated,
    )
    work.begin("the tape does not grow from block to block")
    most = max(net.sizes)
    cause = "the state still has the tape of all earlier blocks: detach it, instead of retain_graph=True"
    work.expect(
        most <= 6 * size, f"the tape grows: {net.sizes[size - 1]} nodes after the first block, {most} in the last", cause, truncated
    )
    work.begin("the gradient, through a block and not further")
    work.expect(net.u.grad is not None, "the weights got no gradient", "backward() must be called on each block's loss", truncated)
    causes = {"the state is cut off at every step: no gradient goes through time": _right(x, size, 1)[1]}
    compare(work, "the gradient of the recurrent weights", net.u.grad, gradient, causes=causes, where=truncated)
