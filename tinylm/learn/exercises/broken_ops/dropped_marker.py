"""Marks the repaired dropout."""

import numpy as np

from tinylm.engine.tensor import Tensor
from tinylm.learn.exercise import Mistake
from tinylm.learn.op_marking import call, check_op, normal
from tinylm.learn.work import Work

HINTS = (
    "Is the mask of the backward pass that of the forward pass? Print both.",
    "The same key gives the same numbers, whenever it is asked. Something changes the key between the two calls.",
)
THEN = "tinylm/ops/dropout.py keeps the mask; attention draws it again from the same key instead of keeping it."
BUG = Mistake.of(
    "every mask has a key of its own",
    "    def mask():\n        kept = random_uint32(key, x.size)",
    "    calls = iter(range(2**32))\n\n    def mask():\n        kept = random_uint32((key[0], key[1] + next(calls)), x.size)",
    says="were dropped",
)
MISTAKES = (
    Mistake.of("no mask going back", "(dy * mask(),)", "(dy,)", says="were dropped"),
    Mistake.of("no scale going back", "(dy * mask(),)", "(dy * (mask() > 0),)", says="a factor of 1/2"),
    Mistake.of("one fixed mask", "random_uint32(key, x.size)", "random_uint32((0, 0), x.size)"),
)


def mark(work: Work) -> None:
    work.begin("what was dropped gets no gradient, what was kept gets one")
    x = Tensor(np.ones(40), requires_grad=True)
    y = work.get("dropout")(x, 0.5, key=(1, 2))
    y.sum().backward()
    assert x.grad is not None
    dropped, blind = y.numpy() == 0, x.grad == 0
    odd = int((dropped & ~blind).sum()), int((~dropped & blind).sum())
    text = (
        f"the symptom: of 40 elements {int(dropped.sum())} were dropped; {odd[0]} of these get a gradient, "
        f"and {odd[1]} of the others get none"
    )
    work.expect(odd == (0, 0), text)
    check_op(work, "dropout", [call(normal(2, 6), p=0.5, key=(3, 4)), call(normal(9), p=0.2, key=(1, 0))])
